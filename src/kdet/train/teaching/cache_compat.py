"""Whether a teacher's answers can be kept under a recipe's augmentation, and how many there are."""

import math

from kdet.data import Pipeline
from kdet.distill import Distiller
from kdet.distill.cache.store import KEPT
from kdet.distill.cache.teacher_cache import MOVABLE, Mode
from kdet.errors import InputError
from kdet.train.recipe.schema import Recipe
from kdet.types import Batch, Need, Observation


def require_cacheable(recipe: Recipe, distiller: Distiller, pipeline: Pipeline) -> None:
    """Early, before anything takes time.

    Raises:
        InputError: an augmentation under which a teacher's answers cannot be kept.
    """
    if distiller.criterion is not None:
        for teacher, needs in zip(recipe.teachers, distiller.criterion.teacher_needs, strict=True):
            if teacher.cache is not None:
                mode_for(pipeline, needs)


def mode_for(pipeline: Pipeline, needs: frozenset[Need]) -> Mode:
    """Return how answers can be kept under an augmentation.

    Raises:
        InputError: not at all.
    """
    if not needs <= KEPT:
        raise InputError(f"teacher: cache: {', '.join(sorted(needs - KEPT))} cannot be kept; leave `cache:` out")
    own = pipeline.augmentation
    if own.scale is None and not own.crop and not own.photometric:
        return "views"
    if needs <= MOVABLE:
        return "whole"
    raise InputError(
        f"teacher: cache: {', '.join(sorted(needs - MOVABLE))} would be new in every epoch under data.augment; use "
        "flips alone (no crop, scale or photometric), or leave `cache:` out"
    )


def views_of(pipeline: Pipeline) -> int:
    """Count the ways in which an image is flipped."""
    return math.prod(
        2 if 0 < share < 1 else 1 for share in (pipeline.augmentation.flip, pipeline.augmentation.vertical_flip)
    )


def require_movable(seen: Observation, batch: Batch) -> None:
    """Refuse answers that `moved` would misplace."""
    if seen.activation != "sigmoid":
        raise InputError(
            "teacher: cache: answers of a softmax head are not moved to crops; use flips alone, or leave `cache:` out"
        )
    height, width = batch.for_teacher().images.shape[-2:]
    grids = tuple((math.ceil(height / level.stride), math.ceil(width / level.stride)) for level in seen.levels)
    if seen.cells_hw and seen.cells_hw != grids:
        raise InputError(
            f"teacher: cache: its grids {seen.cells_hw} are not those of its strides, so answers cannot be moved; "
            "use flips alone, or leave `cache:` out"
        )
