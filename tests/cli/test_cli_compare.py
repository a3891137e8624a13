"""`kdet compare` as a user types it."""

import json
from pathlib import Path

import pytest
from cli_cases import Command

from fakes import tiny, tiny_recipe, write_yaml
from kdet.train.state.run_folder import save_student


@pytest.fixture
def recipe(kdet: Command) -> Path:
    """A recipe with a teacher, in the folder where commands are typed."""
    teacher = tiny(width=0.5, fpn_channels=64, image_size=64, seed=2)
    save_student(teacher, teacher.native_state(), kdet.folder / "teacher.safetensors")
    content = tiny_recipe(
        teacher={"run": "teacher.safetensors"}, distill=[{"method": "structural"}], train={"epochs": 1}
    )
    return write_yaml(kdet.folder / "tiny.yaml", content)


@pytest.mark.long
def test_one_object_on_standard_output_whatever_the_verdict(kdet: Command, recipe: Path) -> None:
    ended = kdet("compare", recipe, "--arms", "structural", "--seeds", "1", "--json")
    assert ended.status == 0, ended.err
    assert ended.result == json.loads((kdet.folder / "runs" / "compare-tiny" / "compare.json").read_text())
    none, structural = ended.result["arms"]
    assert none["verdict"] is None and structural["verdict"] == "not shown" and structural["interval"] is None
    assert structural["cost"]["time"] > 0 and "round 1 of 1" in ended.err
    again = kdet("compare", recipe, "--arms", "structural", "--seeds", "1", "--out", "runs/compare-tiny")
    assert "not shown" in again.out and "round 1" not in again.err and "index.html" in again.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--arms", "structual"], "did you mean 'structural'"),
        (["--arms", "none"], "nothing to compare"),
        (["--seeds", "0"], "expected at least 1"),
        (["--budget", "soon"], "expected a time such as 2h"),
        (["--longer", "1"], "--longer 1: expected whole numbers above 1"),
        (["--longer", "2,x"], "--longer x: expected whole numbers above 1"),
        (["-o", "teacher.run=runs/teacher"], "train it first: kdet train"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    kdet: Command, recipe: Path, arguments: list[str], line: str
) -> None:
    before = kdet.files()
    ended = kdet("compare", recipe, *arguments)
    assert ended.status == 2 and line in ended.err and ended.err.count("\n") == 1 and ended.out == ""
    assert kdet.files() == before
