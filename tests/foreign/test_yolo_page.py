"""The Python of the guide to YOLO, from top to bottom, with the student file that its recipe would leave."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

pytest.importorskip("ultralytics", reason="needs ultralytics, in an environment of its own: make test-foreign")
from ultralytics.nn.tasks import DetectionModel

from doc_snippets import ROOT, blocks


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = DetectionModel("yolo11n.yaml", nc=3)
    student = Path("runs/yolo-nano/student.safetensors")
    student.parent.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, student)
    factory, loading = (s.text for s in blocks(ROOT / "docs" / "guides" / "yolo.md") if s.kind == "python")
    page = {"__name__": "page"}
    exec(compile(factory, "yolo.md", "exec"), page)
    assert page["build"](["a", "b"]).model[-1].nc == 2
    exec(compile(loading, "yolo.md", "exec"), page)
    for name, tensor in page["model"].state_dict().items():
        assert tensor.equal(trained.state_dict()[name]), name
