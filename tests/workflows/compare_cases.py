"""Small comparisons: a recipe with a teacher that was never trained, runs in this process, finished runs by hand."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fakes import tiny, tiny_recipe
from kdet.train import Recipe
from kdet.train.state.run_folder import save_student
from kdet.workflows.compare.gain import Finished

PLACEBO = {"placebo": [{"method": "structural", "weight": 0.0, "placebo": True}]}


class Here(ThreadPoolExecutor):
    """One run after the other in this process; knows which folders it was asked for."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[Path] = []

    def __len__(self) -> int:
        return 1

    def submit(self, job: Any, recipe: Recipe, folder: Path, /) -> Future[None]:
        self.asked.append(folder)
        return super().submit(job, recipe, folder)


def teacher_of(folder: Path, **options: Any) -> Path:
    """A file of weights, wider than the student's unless asked for otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    detector = tiny(**({"width": 0.5, "fpn_channels": 64, "image_size": 64, "seed": 2} | options))
    save_student(detector, detector.native_state(), folder / "teacher.safetensors")
    return folder / "teacher.safetensors"


def recipe_in(folder: Path, **sections: Any) -> Recipe:
    """A distillation of a few steps."""
    given = {"teacher": {"run": str(teacher_of(folder))}, "distill": [{"method": "structural"}]} | sections
    return Recipe.model_validate(tiny_recipe(**given))


def finished(
    ap: float,
    *,
    seconds: float = 10.0,
    memory: int | None = 100,
    draws: Sequence[float] = (),
    looks: Sequence[tuple[int, float]] = (),
) -> Finished:
    """A run with this AP; on images drawn anew it has the AP of `draws`, or always the same."""
    resampled = np.array(draws or [ap] * 5)
    cost = {"seconds": seconds, "memory_bytes": memory}
    per_class = {"cat": {"AP": ap}, "dog": {"AP": None}}
    metrics = {"AP": ap, "AP_S": ap / 2, "AP_M": ap, "AP_L": None, "per_class": per_class}
    curves = {"iou": [0.5, 0.55], "AP_per_iou": [ap, ap / 2]}
    about: dict[str, Any] = {"metrics": metrics, "curves": curves, "cost": cost, "looks": tuple(looks)}
    return Finished(folder=Path("made-up"), resampled=resampled, **about)
