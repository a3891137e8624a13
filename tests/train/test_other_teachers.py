"""Teachers of other families than the student's, by recipe."""

from pathlib import Path
from typing import Any

import pytest

from fakes import tiny, tiny_recipe
from kdet.train import Recipe
from kdet.train.loop import fit
from kdet.train.run_folder import save_student

STUDENT = {"detector": "faster_rcnn", "backbone": "resnet10", "width": 0.25, "fpn_channels": 32, "anchor_scale": 0.5}


def recipe_of(teacher: dict[str, Any], *terms: dict[str, Any], **student: Any) -> Recipe:
    """Two steps of a tiny student."""
    content = tiny_recipe(train={"max_steps": 2}, distill=list(terms))
    return Recipe.model_validate(content | {"student": STUDENT | student, "teacher": teacher})


@pytest.mark.parametrize("term", [{"method": "structural"}, {"method": "soft_labels", "on": "regions"}])
def test_a_cascade_teaches_a_faster_rcnn(term: dict[str, Any], tmp_path: Path) -> None:
    cascade = tiny("cascade_rcnn", image_size=64, width=0.5, fpn_channels=64)
    save_student(cascade, cascade.native_state(), tmp_path / "teacher.safetensors")
    recipe = recipe_of({"run": str(tmp_path / "teacher.safetensors")}, term)
    assert fit(recipe, tmp_path / "run").steps == 2
    log = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert f'"{term["method"]}"' in log and "distillation acts" in log
