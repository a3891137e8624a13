"""A detector from a recipe's `student:` or `teacher:`."""

from collections.abc import Callable, Sequence
from typing import Literal

from kdet import detectors
from kdet.train.recipe.models import ModelRecipe
from kdet.types import Canvas, Detector, ImageSize

Say = Callable[[str], None]
"""Receives what the user should know, a line at a time."""


def build_detector(
    model: ModelRecipe, classes: Sequence[str], size: ImageSize, say: Say, *, canvas: Canvas | Literal["auto"] = "auto"
) -> Detector:
    """Build a detector with its own weights, or at random."""
    arguments = model.model_dump(include=set(ModelRecipe.model_fields) - {"detector"})
    return detectors.build(model.detector, classes=classes, image_size=size, canvas=canvas, notes=say, **arguments)
