"""Recipes to check, and what a check said about them."""

from pathlib import Path
from typing import Any

from fakes import tiny, tiny_recipe
from kdet.train import Recipe
from kdet.train.state.run_folder import save_student
from kdet.workflows.check.report import Report


def save(folder: Path, **options: Any) -> Path:
    """A student file that can be a teacher, wider than the student of `tiny_recipe`."""
    detector = tiny(**({"width": 0.5, "fpn_channels": 64, "image_size": 64, "seed": 2} | options))
    path = folder / "teacher.safetensors"
    save_student(detector, detector.native_state(), path)
    return path


def recipe_of(folder: Path, *terms: dict[str, Any], **sections: Any) -> Recipe:
    """A tiny recipe under a teacher that was never trained."""
    distill = list(terms) or [{"method": "structural"}]
    teacher = {} if "teacher" in sections else {"teacher": {"run": str(save(folder))}}
    return Recipe.model_validate(tiny_recipe(distill=distill, **teacher, **sections))


def failed(report: Report) -> list[str]:
    return [problem.text for problem in report.problems if problem.status == "failed"]


def warned(report: Report) -> list[str]:
    return [problem.text for problem in report.problems if problem.status == "warning"]
