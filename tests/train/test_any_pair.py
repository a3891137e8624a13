"""Recipes of several teachers, and of a teacher at its own size: real runs of a few steps."""

import json
from pathlib import Path
from typing import Any

import pytest
from train_cases import distilled, records, run, teacher_file

from kdet.distill import RATIO
from kdet.errors import InputError
from kdet.train import read_recipe
from kdet.train.recipe.schema import Recipe
from kdet.workflows.check.run import check
from kdet.workflows.check.text import as_text

FEW = {"format": "shapes", "images": 8, "val_images": 4, "image_size": 64, "scale": [0.3, 0.6], "clutter": 0}


def log_of(folder: Path) -> str:
    return (folder / "log.jsonl").read_text(encoding="utf-8")


def two_teachers(folder: Path) -> list[dict[str, Any]]:
    other = teacher_file(folder / "other", detector="fcos", seed=7)
    return [
        {"run": str(teacher_file(folder / "big")), "name": "big"},
        {"run": str(other), "name": "other", "weight": 0.5, "distill": [{"method": "structural", "weight": 2.0}]},
    ]


def test_two_teachers_each_with_its_own_terms_and_its_own_ap(tmp_path: Path) -> None:
    recipe = distilled(tmp_path, teacher=two_teachers(tmp_path))
    assert run(recipe, tmp_path / "run").steps == 4
    parts = records(tmp_path / "run", "step")[0]["parts"]
    assert {name for name in parts if "task" not in name} == {
        "big/structural",
        "big/rank_mimicking",
        "other/structural",
    }
    for name in ("teacher.json", "teacher2.json", "teacher2-predictions.json", "teacher2-curves.json"):
        assert (tmp_path / "run" / name).is_file()
    assert "teacher 2: other/structural" in log_of(tmp_path / "run")
    again = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert [teacher.name for teacher in again.teachers] == ["big", "other"]


def test_a_teachers_weight_multiplies_those_of_its_terms(tmp_path: Path) -> None:
    from kdet.train.teaching.teachers import build_teachers

    recipe = distilled(tmp_path, teacher=two_teachers(tmp_path))
    paired_teachers = build_teachers(recipe, ("circle", "square", "triangle"), lambda line: None)
    assert [[term.weight for term in paired.terms] for paired in paired_teachers] == [["auto", "auto"], [1.0]]
    assert [term.ratio for term in paired_teachers[0].terms] == [RATIO, RATIO]
    content = recipe.model_dump(mode="json")
    content["teacher"][0]["weight"] = 0.5
    halved = build_teachers(Recipe.model_validate(content), ("circle", "square", "triangle"), lambda line: None)
    assert [term.ratio for term in halved[0].terms] == [RATIO / 2, RATIO / 2]


def test_check_shows_the_pairing_of_every_teacher(tmp_path: Path) -> None:
    report = check(distilled(tmp_path, teacher=two_teachers(tmp_path)))
    assert len(report.more_teachers) == 1 and report.more_teachers[0]["levels"]["pairs"]
    text = as_text(report)
    assert "levels 2" in text and "teacher 2" in text


def test_a_mistake_in_a_list_of_teachers_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {format: shapes}\nstudent: {detector: retinanet}\nteacher:\n  - {run: a}\n  - {rum: b}\n")
    with pytest.raises(InputError, match=r"r.yaml:5: unknown key 'teacher.1.rum'; did you mean 'run'"):
        read_recipe(path)


@pytest.mark.parametrize("size", [128, 96])
def test_a_teacher_at_its_own_size_trains_and_is_evaluated_at_it(tmp_path: Path, size: int) -> None:
    teacher = {"run": str(teacher_file(tmp_path)), "image_size": size}
    augment = {"scale": [0.8, 1.4], "flip": 0.5}
    recipe = distilled(tmp_path, ("structural",), teacher=teacher, data={**FEW, "augment": augment})
    assert run(recipe, tmp_path / "run").steps == 4
    text = log_of(tmp_path / "run")
    expected = "stride    8: student 32 channels ← teacher 64 channels"
    assert expected in text
    assert ("at stride 10.6667, resized" in text) == (size == 96)
    assert json.loads((tmp_path / "run" / "maps" / "maps.json").read_text())["pictures"]


def test_a_long_side_beside_a_short_side_with_its_limit_is_refused(tmp_path: Path) -> None:
    teacher = {"run": str(teacher_file(tmp_path)), "image_size": [128, 200]}
    with pytest.raises(InputError, match="give both as a long side"):
        run(distilled(tmp_path, ("structural",), teacher=teacher), tmp_path / "run")
