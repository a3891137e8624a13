"""How much AP owes to the choice of validation images: AP on images drawn anew, with the same draw for every model.

Shapes: B draws, N images, D detections of one class, T IoU thresholds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdet.evaluate.matching import ClassMatches

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_DRAWS = 1000
_RECALLS: Floats = np.linspace(0.0, 1.0, 101)
_MOST_CELLS = 4_000_000
"""Numbers held at a time."""


def draws(num_images: int, *, count: int = NUM_DRAWS, seed: int = 0) -> Ints:
    """Return B×N: how often each image is in each draw of N images with replacement."""
    equally = np.full(num_images, 1 / num_images)
    return np.random.default_rng(seed).multinomial(num_images, equally, size=count)


def resampled_ap(classes: Sequence[ClassMatches], weights: Ints) -> Floats:
    """B: COCO's AP where image n counts `weights[b, n]` times; NaN where no object is drawn.

    Args:
        classes: of one model, from `match`.
        weights: from `draws`; the same for models that are compared.
    """
    of_classes = np.stack([_class_ap(one, weights) for one in classes], axis=1)
    present = np.isfinite(of_classes)
    total = np.where(present, of_classes, 0.0).sum(axis=1)
    return np.divide(total, present.sum(axis=1), out=np.full(len(total), np.nan), where=present.any(axis=1))


def percentile_interval(values: Floats, *, level: float = 0.95) -> tuple[float, float] | None:
    """Return the middle of the values, by their rank; None where there is none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = np.quantile(finite, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _class_ap(matches: ClassMatches, weights: Ints) -> Floats:
    """B: AP of one class; NaN where no object of it is drawn."""
    per_step = max(1, _MOST_CELLS // max(1, matches.image.size))
    steps = range(0, len(weights), per_step)
    return np.concatenate([_class_ap_of(matches, weights[at : at + per_step]) for at in steps])


def _class_ap_of(matches: ClassMatches, weights: Ints) -> Floats:
    num_objects = weights @ matches.objects
    drawn = weights[:, matches.image]
    total = np.zeros(len(weights))
    for hit, ignored in zip(matches.hit, matches.ignored, strict=True):
        # Only hits move recall, and precision is highest at hits: the others matter by their number alone.
        hits = np.flatnonzero(hit)
        true = np.cumsum(drawn[:, hits], axis=1)
        counted = np.cumsum(drawn * ~ignored, axis=1)[:, hits] if ignored.any() else np.cumsum(drawn, axis=1)[:, hits]
        total += _area(true, counted, num_objects)
    mean = total / len(matches.hit)
    return np.where(num_objects > 0, mean, np.nan)


def _area(true: Ints, counted: Ints, num_objects: Ints) -> Floats:
    """B: mean over the 101 recalls of the best precision at that recall or a higher one."""
    precision = np.divide(true, counted, out=np.zeros(true.shape), where=counted > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = true / np.maximum(num_objects, 1)[:, None]
    reached = np.searchsorted(_RECALLS, recall, side="right")
    gained = np.diff(reached, axis=1, prepend=0)
    return (gained * best).sum(axis=1) / len(_RECALLS)
