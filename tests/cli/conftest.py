"""One command line, and one small job that every test may read from."""

from pathlib import Path

import pytest
from cli_cases import Command, Ended, in_this_process

from fakes import tiny_recipe, write_yaml


@pytest.fixture
def kdet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`kdet(…)` in an empty folder."""
    return Command(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended | Path]:
    """Shapes written as COCO, a teacher trained on them, and a student distilled from it."""
    folder = tmp_path_factory.mktemp("job")
    sizes = [part for key in ("images=8", "val_images=4", "image_size=64") for part in ("-o", key)]
    shapes = ("data", "shapes", "shapes", *sizes, "--json")
    ended: dict[str, Ended | Path] = {"folder": folder, "shapes": in_this_process(*shapes, folder=folder)}
    data = {"format": "coco", "train": "shapes", "val": "shapes", "image_size": 64}
    write_yaml(folder / "teacher.yaml", {**tiny_recipe(), "data": data})
    terms = [{"method": "structural"}, {"method": "rank_mimicking", "weight": 1.0}]
    small = {**tiny_recipe(), "data": data, "teacher": {"run": "runs/teacher"}, "distill": terms}
    write_yaml(folder / "small.yaml", small)
    wider = ("-o", "student.width=0.5", "-o", "student.fpn_channels=64", "--run", "runs/teacher", "--json")
    ended["train"] = in_this_process("train", "teacher.yaml", *wider, folder=folder)
    ended["distill"] = in_this_process("distill", "small.yaml", "--seed", "3", "--json", folder=folder)
    return ended
