"""ATSS and GFL in a recipe: alone, under a teacher, and as a teacher of another family."""

from pathlib import Path

import pytest
from train_cases import distilled, recipe_of, records, run, teacher_file

from kdet.train import load_detector

TWO_STEPS = {"epochs": 1, "max_steps": 2}
LOSSES = {
    "atss": {"task/classification", "task/bbox_regression", "task/bbox_ctrness"},
    "gfl": {"task/classification", "task/bbox_regression", "task/bbox_distribution"},
    "retinanet": {"task/classification", "task/bbox_regression"},
}


@pytest.mark.parametrize("name", ["atss", "gfl"])
def test_trains_alone(name: str, tmp_path: Path) -> None:
    outcome = run(recipe_of(student={"detector": name}, train=TWO_STEPS), tmp_path / "run")
    assert outcome.steps == 2 and 0 <= outcome.metrics["AP"] <= 1
    assert all(set(record["parts"]) == LOSSES[name] for record in records(tmp_path / "run", "step"))
    assert load_detector(tmp_path / "run").family == name


@pytest.mark.parametrize(
    ("student", "teacher", "methods"),
    [
        ("gfl", "gfl", ("ld", "bckd")),
        ("retinanet", "gfl", ("structural", "prediction_guided", "cosine")),
        ("atss", "atss", ("structural", "rank_mimicking")),
    ],
)
def test_trains_under_a_teacher(student: str, teacher: str, methods: tuple[str, ...], tmp_path: Path) -> None:
    file = teacher_file(tmp_path, detector=teacher)
    recipe = distilled(
        tmp_path / "unused", methods, teacher={"run": str(file)}, student={"detector": student}, train=TWO_STEPS
    )
    assert run(recipe, tmp_path / "run").steps == 2
    for record in records(tmp_path / "run", "step"):
        assert set(record["parts"]) == LOSSES[student] | set(methods)
        assert all(record["parts"][method] > 0 for method in methods)
    assert any("distillation acts" in note["text"] for note in records(tmp_path / "run", "note"))
