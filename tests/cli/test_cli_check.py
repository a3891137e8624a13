"""`kdet check` by the command line: its output, its exit status, and that it leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Command, in_own_process

from fakes import CLASSES, tiny, tiny_recipe, write_yaml
from kdet.train.state.run_folder import save_student

SECTIONS = ["data", "classes", "levels", "teacher", "terms", "step", "memory"]


@pytest.fixture
def recipe(kdet: Command) -> Path:
    """A recipe with a teacher that was never trained."""
    detector = tiny(width=0.5, fpn_channels=64, image_size=64, seed=2, classes=CLASSES)
    save_student(detector, detector.native_state(), kdet.folder / "teacher.safetensors")
    content: dict[str, Any] = {"teacher": {"run": "teacher.safetensors"}, "distill": [{"method": "structural"}]}
    return write_yaml(kdet.folder / "r.yaml", tiny_recipe(**content))


def test_json_is_one_object_with_every_section_and_nothing_is_written(kdet: Command, recipe: Path) -> None:
    before = kdet.files()
    ended = kdet("check", recipe, "--json")
    assert ended.status == 0, ended.err
    assert ended.out.count("\n") == 1
    assert set(ended.result) >= {*SECTIONS, "problems"}
    assert {problem["status"] for problem in ended.result["problems"]} == {"warning"}
    assert kdet.files() == before


def test_text_is_for_people_and_strict_refuses_what_it_warns_of(kdet: Command, recipe: Path) -> None:
    ended = kdet("check", recipe, "--strict")
    assert ended.status == 1
    headings = [line.split()[0] for line in ended.out.splitlines() if not line.startswith(" ")]
    assert [heading for heading in headings[:-1] if heading != "note:"] == SECTIONS
    assert ended.out.splitlines()[-1] == "2 warnings, which --strict refuses"


def test_a_trial_stands_behind_the_other_sections_and_leaves_nothing(kdet: Command, recipe: Path) -> None:
    before = kdet.files()
    ended = kdet("check", recipe, "--trial", "10m", "--json")
    assert ended.status == 0, ended.err
    assert [one["name"] for one in ended.result["trial"]["students"]] == ["without", "structural"]
    assert kdet.files() == before
    refused = kdet("check", recipe, "--trial", "soon")
    assert refused.status == 2 and refused.err.count("\n") == 1 and "--trial soon: expected a time" in refused.err


def test_what_would_not_act_ends_with_status_1_and_names_the_mend(kdet: Command, recipe: Path) -> None:
    ended = kdet("check", recipe, "-o", "distill=[{method: structural, weight: 0}]")
    assert ended.status == 1
    assert "  failed: structural: weight 0 distils nothing; give it a weight, or leave the term out" in ended.out
    assert "Traceback" not in ended.err
    assert kdet("distill", recipe, "-o", "distill=[{method: structural, weight: 0}]", "--run", "run").status == 2


def test_a_weight_that_drowns_the_task_is_refused_by_strict(kdet: Command, recipe: Path) -> None:
    far_off = ("-o", "distill=[{method: l2, weight: 1000000}]")
    ended = kdet("check", recipe, *far_off)
    assert ended.status == 0 and "  warning: l2: weight 1e+06 pulls " in ended.out
    assert kdet("check", recipe, *far_off, "--strict").status == 1


def test_wrong_input_ends_with_status_2_and_one_line(kdet: Command, recipe: Path) -> None:
    for arguments in ((recipe, "-o", "teacher.run=nowhere"), (recipe, "-o", "train.epoch=1"), ("nowhere.yaml",)):
        ended = kdet("check", *arguments)
        assert ended.status == 2 and ended.out == ""
        assert ended.err.count("\n") == 1 and ended.err.startswith("kdet: ")


def test_distill_warns_of_a_teacher_that_knows_nothing(kdet: Command, recipe: Path) -> None:
    ended = kdet("distill", recipe, "--run", "run", "-o", "train.max_steps=1")
    assert ended.status == 0, ended.err
    assert "warning: such a teacher knows next to nothing of these data; `kdet check`" in ended.err


def test_distill_evaluates_a_teacher_with_other_names_for_its_classes(kdet: Command, recipe: Path) -> None:
    detector = tiny(width=0.5, fpn_channels=64, image_size=64, seed=2, classes=("Kreis", "Quadrat", "Dreieck"))
    save_student(detector, detector.native_state(), kdet.folder / "teacher.safetensors")
    names = "teacher.class_map={Kreis: circle, Quadrat: square, Dreieck: triangle}"
    ended = kdet("distill", recipe, "--run", "run", "-o", "train.max_steps=1", "-o", names)
    assert ended.status == 0, ended.err
    assert set(json.loads((kdet.folder / "run" / "teacher.json").read_text())["per_class"]) == set(CLASSES)


def test_help_has_an_example(tmp_path: Path) -> None:
    ended = in_own_process("check", "--help", folder=tmp_path)
    assert ended.status == 0 and "Example: kdet check recipes/" in ended.out and "--strict" in ended.out
