"""Any module behind the Detector protocol: features by taps, losses and predictions by the user's own functions.

Legend: N images, M objects of one image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from kdet.detectors.batching import as_dicts, make_batch, normalised
from kdet.detectors.modules.taps import Tap, listening, picked, read_tap
from kdet.errors import InputError
from kdet.ops.modes import evaluating
from kdet.types import Batch, Canvas, Detections, Level, Need, Observation, SizeHW, Target

Predict = Callable[[nn.Module, Tensor, list[SizeHW]], Sequence[Mapping[str, Tensor]]]
"""(module, images N×3×H×W, sizes of the unpadded parts) → a dict of boxes M×4, scores M, labels M per image."""
Losses = Callable[[nn.Module, Tensor, list[dict[str, Tensor]]], Mapping[str, Tensor]]
"""(module, images, targets) → the task's losses by name."""
Forward = Callable[[nn.Module, Tensor], object]
"""(module, images) → anything; must run the tapped modules."""

_PROBE_PX = 64
_PROBE_CELLS = 4
"""The first forward pass has at least so many pixels, and so many cells of the coarsest level, on a side."""
_WHOLE_CELL = 1.01


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user says about a module; None where it is not needed."""

    predict: Predict | None = None
    losses: Losses | None = None
    forward: Forward | None = None
    normalize: tuple[Sequence[float], Sequence[float]] | None = None
    image_size: int | tuple[int, int] | None = None
    canvas: Canvas = "pad"


class HookedDetector:
    """A module that the user brought, with its own state_dict and nothing added to it."""

    build_arguments: dict[str, Any] | None = None

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str],
        features: Sequence[str],
        strides: Sequence[int],
        given: Given,
    ) -> None:
        """Run the module once on a small image to learn its channels.

        Raises:
            InputError: a tap or a stride that does not fit, or the module cannot be run.
        """
        if not features or len(features) != len(strides):
            raise InputError(
                f"expected one stride per feature, got {len(features)} features and {len(strides)} strides"
            )
        if any(stride < 1 for stride in strides):
            raise InputError(f"strides: expected pixels per cell, 1 or more, got {list(strides)}")
        self.family = type(model).__name__
        self.architecture: tuple[str, str] = (type(model).__module__, self.family)
        self.model = model
        self.class_names = tuple(class_names)
        self.predicts = given.predict is not None
        self.provides = frozenset({Need.FEATURES} | ({Need.LOSSES} if given.losses else set[Need]()))
        self.image_size = (800, 1333) if given.image_size is None else given.image_size
        self.canvas: Canvas = given.canvas
        self._given = given
        self._library = SimpleNamespace(transform=_transform(given))
        self._taps = [read_tap(written, model) for written in features]
        self.levels = self._measured(strides)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to `image_size`, where one was given, on the canvas that was asked for."""
        return make_batch(self, images, targets, keep_size=self._given.image_size is None)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """One forward pass; losses, where they are asked for, come from the same pass as the features."""
        images = normalised(self._library, batch).tensors
        losses: dict[str, Tensor] = {}
        with listening(self.model, self._taps) as heard:
            if Need.LOSSES in needs:
                assert targets is not None, "task losses need targets"
                losses = self._losses(images, targets)
            else:
                self._run(images)
        size_hw = (int(images.shape[2]), int(images.shape[3]))
        features = [picked(tap, heard) for tap in self._taps]
        for tap, level, feature in zip(self._taps, self.levels, features, strict=True):
            _check(tap, level.stride, feature, size_hw)
        return Observation(levels=self.levels, input_size_hw=size_hw, features=features, losses=losses)

    def predict(self, batch: Batch) -> list[Detections]:
        """What the user's function finds, best first.

        Raises:
            InputError: wrapped without one, or it returns something else than boxes, scores and labels per image.
        """
        if self._given.predict is None:
            raise InputError(f"{self.family} was wrapped without `predict=`, so it has no detections; give one")
        found = self._given.predict(self.model, normalised(self._library, batch).tensors, list(batch.sizes_hw))
        if len(found) != len(batch.images):
            raise InputError(f"predict of {self.family}: expected {len(batch.images)} results, got {len(found)}")
        return [_detections(one, self.family) for one in found]

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Refused: only the module knows its head."""
        raise InputError(f"{self.family} was wrapped by its features, so its head cannot be entered from outside")

    def native_state(self) -> dict[str, Tensor]:
        """The module's own state_dict."""
        return self.model.state_dict()

    def _run(self, images: Tensor) -> None:
        if self._given.forward is None:
            self.model(images)
        else:
            self._given.forward(self.model, images)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        if self._given.losses is None:
            raise InputError(f"{self.family} was wrapped without `losses=`, so it cannot be a student; give one")
        losses = dict(self._given.losses(self.model, images, as_dicts(targets)))
        for name, value in losses.items():
            if not isinstance(value, Tensor) or value.numel() != 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InputError(f"losses of {self.family}: {name} is no scalar tensor; reduce it to one number")
        if not losses:
            raise InputError(f"losses of {self.family}: expected losses by name, got none")
        return losses

    def _measured(self, strides: Sequence[int]) -> tuple[Level, ...]:
        """Channels of each level from one forward pass, which changes nothing."""
        coarsest = max(strides)
        side = self._given.image_size
        if not isinstance(side, int):
            side = coarsest * max(_PROBE_CELLS, math.ceil(_PROBE_PX / coarsest))
        like = next(self.model.parameters(), torch.empty(0))
        image = torch.zeros(1, 3, side, side, device=like.device, dtype=like.dtype)
        with torch.no_grad(), evaluating(self.model), listening(self.model, self._taps) as heard:
            try:
                self._run(image)
            except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError) as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise InputError(
                    f"{self.family} fails on an image 1×3×{side}×{side} ({reason}); give `image_size=` if it takes one "
                    "size alone, or `forward=` to say how it is run"
                ) from error
        features = [picked(tap, heard) for tap in self._taps]
        for tap, stride, feature in zip(self._taps, strides, features, strict=True):
            _check(tap, stride, feature, (side, side))
        return tuple(
            Level(tap.written, int(feature.shape[1]), stride)
            for tap, stride, feature in zip(self._taps, strides, features, strict=True)
        )


def _transform(given: Given) -> GeneralizedRCNNTransform:
    """torchvision's own resizing and normalisation, with the user's numbers."""
    size = (800, 1333) if given.image_size is None else given.image_size
    short, limit = (size, size) if isinstance(size, int) else size
    mean, std = ([0.0] * 3, [1.0] * 3) if given.normalize is None else given.normalize
    return GeneralizedRCNNTransform(short, limit, list(mean), list(std))


def _check(tap: Tap, stride: int, feature: Tensor, size_hw: SizeHW) -> None:
    """Whether a map has one cell per `stride` pixels, give or take one at the border."""
    cells_hw = (int(feature.shape[2]), int(feature.shape[3]))
    if all(abs(cells - side / stride) < _WHOLE_CELL for cells, side in zip(cells_hw, size_hw, strict=True)):
        return
    measured = " and ".join(f"{side / cells:.3g}" for cells, side in zip(cells_hw, size_hw, strict=True))
    raise InputError(
        f"tap {tap.written!r}: stride {stride} does not fit: an input of {size_hw[0]}×{size_hw[1]} gives a map of "
        f"{cells_hw[0]}×{cells_hw[1]}, which is {measured} pixels a cell"
    )


def _detections(found: Mapping[str, Tensor], family: str) -> Detections:
    if missing := {"boxes", "scores", "labels"} - set(found):
        raise InputError(
            f"predict of {family}: expected boxes, scores and labels; {', '.join(sorted(missing))} missing"
        )
    order = found["scores"].argsort(descending=True)
    boxes = found["boxes"].reshape(-1, 4)[order]
    return Detections(boxes=boxes.float(), scores=found["scores"][order].float(), labels=found["labels"][order].long())
