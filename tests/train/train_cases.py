"""Runs that take a second or two: on generated shapes, with a teacher that was never trained."""

import json
from pathlib import Path
from typing import Any

from fakes import CLASSES, tiny, tiny_recipe
from kdet.train import Outcome, Recipe, fit
from kdet.train.state.run_folder import save_student


def recipe_of(**sections: Any) -> Recipe:
    """A checked tiny recipe."""
    return Recipe.model_validate(tiny_recipe(**sections))


def teacher_file(folder: Path, **options: Any) -> Path:
    """A student file of another run, wider than the student."""
    folder.mkdir(parents=True, exist_ok=True)
    detector = tiny(**({"width": 0.5, "fpn_channels": 64, "image_size": 64, "seed": 2, "classes": CLASSES} | options))
    save_student(detector, detector.native_state(), folder / "teacher.safetensors")
    return folder / "teacher.safetensors"


def distilled(folder: Path, methods: tuple[str, ...] = ("structural", "rank_mimicking"), **sections: Any) -> Recipe:
    """A recipe with a teacher and terms."""
    terms = [{"method": method} for method in methods]
    return recipe_of(**({"teacher": {"run": str(teacher_file(folder))}, "distill": terms} | sections))


def run(recipe: Recipe, folder: Path, **options: Any) -> Outcome:
    """Train."""
    return fit(recipe, folder, **options)


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Those of log.jsonl of one kind."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]
