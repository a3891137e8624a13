"""A detector from a recipe's `student:` or `teacher:`."""

from collections.abc import Callable, Sequence

from kdet import detectors
from kdet.data.resize import ImageSize
from kdet.train.recipe_models import ModelRecipe
from kdet.types import Detector

Say = Callable[[str], None]
"""Receives what the user should know, a line at a time."""


def build_detector(model: ModelRecipe, classes: Sequence[str], size: ImageSize, say: Say) -> Detector:
    """With its own weights, or at random."""
    arguments = model.model_dump(include=set(ModelRecipe.model_fields) - {"detector"})
    return detectors.build(model.detector, classes=classes, image_size=size, notes=say, **arguments)
