"""What teacher and student make of one image inside, level by level, as maps to look at.

Legend: N images, C channels, H W height and width of a level in cells.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdet.distill.adapters import Adapter
from kdet.distill.distiller import Distiller
from kdet.distill.pairing import Pairing
from kdet.distill.views.base import paired_features
from kdet.ops.precision import full_precision
from kdet.ops.ssim.reference import Exponents, similarity
from kdet.ops.ssim.scale import rescaled_pair
from kdet.types import Batch, Detector, Need

_WINDOW, _SIGMA = 11, 1.5
"""Those of the structural loss by default."""


@dataclass(frozen=True, kw_only=True)
class LevelMaps:
    """One level of both models on one image, without the padding; H×W float32 on the CPU."""

    stride: int
    student: Tensor
    """Mean over channels of |activation|, after the adapter where there is one."""
    teacher: Tensor
    similarity: Tensor | None
    """Mean over channels of the local SSIM, 1 in those that the teacher does not use; None where the two have
    different channels."""


def level_maps(distiller: Distiller, student: Detector, batch: Batch) -> list[LevelMaps]:
    """Return the levels of the first image of a batch that a feature term compares, or all that are paired.

    Args:
        distiller: with a teacher; its adapters bring the student's channels to the teacher's.
        student: the detector to look into, in evaluation mode: the distiller's own, or its moving average.
        batch: on the models' device.
    """
    pairing, adapt = _compared(distiller)
    features = frozenset({Need.FEATURES})
    with torch.no_grad():
        _, contexts = distiller.observe_pair(batch, student=student, only=features, also=features)
        ours, theirs = paired_features(replace(contexts[0], pairing=pairing), adapt)
        return [
            _level(pair.stride, s[:1], t[:1], batch.sizes_hw[0])
            for pair, s, t in zip(pairing.levels, ours, theirs, strict=True)
        ]


def _compared(distiller: Distiller) -> tuple[Pairing, Callable[[list[Tensor]], list[Tensor]]]:
    """Levels and adapter of the first term that has one for features; terms without compare them as they are."""
    assert distiller.pairing is not None
    for term in distiller.paired_teachers[0].terms:
        assert distiller.criterion is not None
        adapter = distiller.criterion.adapters[term.name]
        if term.view.adapted_maps == 1 and isinstance(adapter, Adapter):
            return distiller.criterion.pairings[term.name], adapter
    return distiller.pairing, lambda features: features


def _level(stride: int, student: Tensor, teacher: Tensor, size_hw: tuple[int, int]) -> LevelMaps:
    height, width = (math.ceil(side / stride) for side in size_hw)

    def shown(maps_NCHW: Tensor) -> Tensor:
        return maps_NCHW[0].mean(0)[:height, :width].float().cpu()

    alike = None
    if student.shape == teacher.shape:
        with full_precision(student):
            own, other, taught = rescaled_pair(student.float(), teacher.float(), "channel")
            dissimilar = (1 - similarity(own, other, Exponents(), _WINDOW, _SIGMA)) * taught
            alike = shown(1 - dissimilar)
    return LevelMaps(stride=stride, student=shown(student.abs()), teacher=shown(teacher.abs()), similarity=alike)
