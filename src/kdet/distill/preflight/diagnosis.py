"""Where numbers break: what both models and every term hold on one batch, level by level."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdet.distill.distiller import Distiller
from kdet.distill.preflight.proof import buffers_kept
from kdet.ops.randomness import seeded
from kdet.types import Batch, Level, Need


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One tensor."""

    name: str
    """Name such as `student features, stride 8`, `structural, stride 16` or `task/classification`."""
    low: float
    """The least of its finite values; NaN where it has none."""
    high: float
    broken: int
    """Values that are not finite."""
    count: int

    def __str__(self) -> str:
        span = f"{self.low:.4g}" if self.count == 1 else f"{self.low:.4g} … {self.high:.4g}"
        return f"{self.name}: {span}" + (f", {self.broken} of {self.count} not finite" if self.broken else "")


def readings(distiller: Distiller, batch: Batch) -> list[Reading]:
    """Read what one forward pass computes, in order, without changing the distiller.

    Args:
        distiller: in training mode, as the step was.
        batch: on its device.
    """
    with torch.no_grad(), seeded(torch.initial_seed(), device=batch.images.device), buffers_kept(distiller):
        return [_reading(name, value) for name, value in _tensors(distiller, batch)]


def first_broken(found: list[Reading]) -> str:
    """Name the first reading that is not finite, with what is finite before it; or say that all are."""
    for place, reading in enumerate(found):
        if reading.broken:
            widest = max(found[:place], key=lambda r: max(abs(r.low), abs(r.high)), default=None)
            return f"{reading}" + (f" (largest before it: {widest})" if widest else "")
    return "every value of the forward pass is finite when it is done again"


def _tensors(distiller: Distiller, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    yield "pixels", batch.images
    criterion = distiller.criterion
    seen, contexts = distiller.observe_pair(batch, also=frozenset({Need.FEATURES}), nan_for_refusal=True)
    yield from _features("student", seen.levels, seen.features)
    yield from ((f"task/{name}", value) for name, value in seen.losses.items())
    if criterion is None:
        return
    for number, context in enumerate(contexts, start=1):
        who = "teacher" if len(contexts) == 1 else f"teacher {number}"
        yield from _features(who, context.teacher.levels, context.teacher.features)
    yield from criterion.by_level(contexts)


def _features(who: str, levels: tuple[Level, ...], maps: list[Tensor] | None) -> Iterator[tuple[str, Tensor]]:
    for level, values in zip(levels, maps or (), strict=False):  # none where no term reads the teacher's features
        yield f"{who} features, stride {level.stride}", values


def _reading(name: str, value: Tensor) -> Reading:
    values = value.detach().float()
    finite = values[values.isfinite()]
    nothing = float("nan")
    return Reading(
        name=name,
        low=float(finite.min()) if finite.numel() else nothing,
        high=float(finite.max()) if finite.numel() else nothing,
        broken=values.numel() - finite.numel(),
        count=values.numel(),
    )
