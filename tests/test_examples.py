"""The examples as a user starts them: other people's training loops with `kdet.Distiller` in them."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from patience import PATIENCE_S

EXAMPLES = Path(__file__).parents[1] / "examples"
REFERENCE = "torchvision_reference"
OTHERS = ("plain_pytorch", "lightning_module", "hf_trainer")
NEEDS = {"lightning_module": "lightning", "hf_trainer": "transformers"}

WATCHED = """
import runpy, sys
from pathlib import Path
script = sys.argv[1]
sys.path.insert(0, str(Path(script).parent))
sys.argv = sys.argv[1:]
left = runpy.run_path(script, run_name="__main__")
print("used of kdet:", *sorted({name.split(".")[1] for name in sys.modules if name.startswith("kdet.")}))
"""
"""Runs a script and says which layers of kdet came along."""


def python(*arguments: str | Path) -> str:
    """Standard output of a process of its own, which must end well."""
    alone = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=alone,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The examples' own data and models, which know nothing of kdet."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return pytest.importorskip("tiny")


def bare_student(build: Callable[[str], torch.nn.Module], file: Path) -> torch.nn.Module:
    """The student's file in a module that is torchvision's own, name by name."""
    state = torch.load(file, weights_only=True)
    model = build("resnet18")
    model.load_state_dict(state.get("model", state))
    return model


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*OTHERS, REFERENCE, "tiny"}


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_an_example_trains_the_student_and_leaves_the_teacher(name: str, tiny: Any, tmp_path: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"this example is about {NEEDS[name]}")
    printed = python("-c", WATCHED, EXAMPLES / f"{name}.py", tmp_path)
    parts = {part: float(value) for part, value in re.findall(r"([\w/]+)'?:? '?(\d+\.\d+)", printed)}
    assert parts["structural"] > 0 and sum(part.startswith("task/") for part in parts) >= 2
    assert name != "plain_pytorch" or parts["prediction_guided"] > 0
    assert "teacher as it was: True\nstudent as it was: False\n" in printed
    used = set(printed.splitlines()[-1].removeprefix("used of kdet: ").split())
    assert "distill" in used and not used & {"train", "report", "study", "evaluate", "data", "cli"}
    if name == "hf_trainer":
        transformers = pytest.importorskip("transformers")
        _, info = transformers.AutoModelForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
    else:
        build = tiny.retinanet if name == "plain_pytorch" else tiny.fcos
        found = bare_student(build, tmp_path / "student.pt").eval()([torch.rand(3, 64, 64)])
        assert {"boxes", "scores", "labels"} <= set(found[0])


@pytest.mark.long
def test_the_reference_loop_distils_with_three_added_lines_and_runs_without_them(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (EXAMPLES / f"{REFERENCE}.py").read_text(encoding="utf-8").splitlines()
    added = [line for line in lines if line.endswith("# added")]
    rest = "\n".join(line for line in lines if line not in added)
    assert len(added) == 3 and all("kdet" in line for line in added) and "kdet" not in rest
    built: dict[str, tuple[torch.nn.Module, dict[str, torch.Tensor]]] = {}

    def recorded(backbone: str) -> torch.nn.Module:
        model = fcos(backbone)
        built[backbone] = model, tiny.state_of(model)
        return model

    fcos = tiny.fcos
    monkeypatch.setattr(tiny, "fcos", recorded)
    for script, out in (("\n".join(lines), tmp_path / "distilled"), (rest, tmp_path / "alone")):
        (tmp_path / "script.py").write_text(script, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["script.py", str(out)])
        built.clear()
        runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
        distilled = out.name == "distilled"
        printed = capsys.readouterr().out
        assert set(re.findall(r"[a-z_/]+(?= \d+\.\d{4})", printed)) == {
            f"{'task/' * distilled}{part}" for part in ("classification", "bbox_regression", "bbox_ctrness")
        } | ({"structural"} if distilled else set())
        assert re.search(r"^\d+ detections$", printed, re.MULTILINE)
        assert not tiny.same(*built["resnet18"])
        assert not distilled or tiny.same(*built["resnet34"])
    one, other = (bare_student(fcos, tmp_path / name / "model.pth").state_dict() for name in ("alone", "distilled"))
    assert not torch.equal(one["backbone.body.conv1.weight"], other["backbone.body.conv1.weight"])
