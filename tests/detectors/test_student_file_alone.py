"""Promise 1: the student file loads without kdet."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from fakes import DETECTOR_NAMES, tiny
from kdet.detectors import plain
from kdet.train.state.run_folder import save_student, write_source
from kdet.types import Detector
from patience import PATIENCE_S

ALONE = """
import importlib.util, sys
sys.path = [p for p in sys.path if not p.endswith("src")]
assert importlib.util.find_spec("kdet") is None, "kdet is still importable"
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from student_model import load_student
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
for folder in sorted(p for p in Path(sys.argv[1]).iterdir() if p.is_dir() and p.name != "student_model"):
    model, class_names = load_student(folder / "student.safetensors")
    assert class_names == ["__background__", "circle", "square", "triangle"]
    images = load_file(folder / "images.safetensors")
    found = model([images[name] for name in sorted(images)])
    results = {f"{i}.{k}": v.detach() for i, one in enumerate(found) for k, v in one.items()}
    save_file(results, folder / "found.safetensors")
assert "kdet" not in sys.modules
"""


def written(name: str, folder: Path) -> tuple[Detector, list[Tensor]]:
    """A student's file and two images in a folder of their own."""
    size = 320 if name == "ssdlite" else 96
    detector = tiny(name, image_size=size)
    folder.mkdir()
    save_student(detector, detector.native_state(), folder / "student.safetensors")
    generator = torch.Generator().manual_seed(3)
    images = [torch.rand(3, size, size, generator=generator) for _ in range(2)]
    save_file({str(i): image for i, image in enumerate(images)}, folder / "images.safetensors")
    return detector, images


@pytest.mark.long
def test_students_predict_the_same_where_kdet_is_not_installed(tmp_path: Path) -> None:
    write_source(tmp_path)
    students = {name: written(name, tmp_path / name) for name in DETECTOR_NAMES}
    subprocess.run([sys.executable, "-I", "-c", ALONE, str(tmp_path)], check=True, timeout=PATIENCE_S)
    for name, (detector, images) in students.items():
        found = load_file(tmp_path / name / "found.safetensors")
        detector.model.eval()
        with torch.no_grad():
            expected = detector.predict(detector.batch(images))
        assert sum(len(one.boxes) for one in expected) > 0
        for i, one in enumerate(expected):
            assert torch.equal(found[f"{i}.labels"], one.labels), name
            torch.testing.assert_close(found[f"{i}.scores"], one.scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found[f"{i}.boxes"], one.boxes, rtol=1e-3, atol=1e-2)


def test_a_student_of_the_librarys_own_architecture_loads_in_the_bare_library(tmp_path: Path) -> None:
    detector = tiny("ssdlite", width=1.0)
    save_student(detector, detector.native_state(), tmp_path / "student.safetensors")
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    model.load_state_dict(load_file(tmp_path / "student.safetensors"))


def test_the_source_written_beside_a_student_imports_nothing_that_needs_kdet() -> None:
    files = list(Path(plain.__file__).parent.glob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    modules = [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    modules += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    assert {node.level for node in nodes if isinstance(node, ast.ImportFrom)} == {0, 1}
    imported = {module.split(".")[0] for module in modules}
    by_timm_alone = {"timm"}  # inside the function that builds such a backbone
    assert imported <= {"torch", "torchvision", "safetensors"} | by_timm_alone | set(sys.stdlib_module_names)
