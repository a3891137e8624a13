"""Detectors that score one point per cell, without anchors, as the YOLO family does.

Legend: N images, A cells of all levels, K class columns, M objects of one image, B bins of an edge's distribution.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from kdet.detectors.batching import grids, make_batch
from kdet.detectors.yolo.selecting import choose
from kdet.ops.modes import evaluating
from kdet.ops.precision import full_precision
from kdet.ops.selection import Candidates, Selection
from kdet.types import Batch, Canvas, Detections, Level, Need, Observation, Target

GREY = 114 / 255
"""What stands around an image in all of these libraries."""
POINT = (0.5, 0.5, 0.5, 0.5)
"""The anchor of a cell that has none: the cell by its middle, wherever in it a library lays the point."""
_HEAD = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT, Need.LOSSES})


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a head says of a batch, float32; cells ordered level by level, row by row."""

    class_logits: Tensor
    """N×A×K."""
    boxes: Tensor
    """N×A×4 in pixels of the input."""
    quality_logits: Tensor | None = None
    """N×A: objectness, where the head has it."""
    edge_logits: Tensor | None = None
    """N×A×4×B: left, top, right, bottom, of heads that predict distributions."""


class PointParts(Protocol):
    """A library's module, taken apart; images are N×3×H×W in RGB, normalised by `pixels`."""

    model: Any
    backbone: str
    """Its kind, whatever its size."""
    strides: tuple[int, ...]
    image_size: int | tuple[int, int]
    has_edges: bool
    """Whether the head predicts distributions of a box's edges."""
    progress: float | None
    """Fraction of the run, for losses that change over it; None = as built."""

    @property
    def pixels(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation of the three colours, in 0…1."""
        ...

    @property
    def selection(self) -> Selection:
        """How its candidates become detections."""
        ...

    def neck(self, images: Tensor) -> list[Tensor]:
        """The maps that feed the head, which is not run."""
        ...

    def run(self, images: Tensor) -> tuple[list[Tensor], Any]:
        """The same maps, and the head's answer as the library's own loss reads it, in float32."""
        ...

    def head(self, features: list[Tensor]) -> Any:
        """Run the head on given maps."""
        ...

    def scored(self, answer: Any, features: Sequence[Tensor], *, final: bool = False) -> Scored:
        """The answer as tensors; `final` = of the branch that detects, where training has another."""
        ...

    def scores(self, scored: Scored) -> Tensor:
        """N×A×K in 0…1, as detections carry them."""
        ...

    def losses(self, images: Tensor, answer: Any, targets: Sequence[Target]) -> tuple[dict[str, Tensor], Tensor]:
        """The library's own losses by name, and the assignment N×A of its own assigner (-1 = background)."""
        ...


def given(*, has_edges: bool) -> frozenset[Need]:
    """Return what such a detector reveals: the distributions of edges where its head predicts them."""
    return _HEAD | {Need.FEATURES} | ({Need.EDGE_LOGITS} if has_edges else frozenset[Need]())


class PointDetector:
    """One of these modules behind the Detector protocol."""

    predicts = True
    fill = (GREY, GREY, GREY)
    canvas: Canvas = "letterbox"
    """libreyolo trains and validates all three on a square with the image at its top left. ultralytics trains on the
    square too, with the image in its middle, and validates on rectangles as its batches need them; here it lies at the
    top left of the square in both, so that a score depends neither on the batch nor on where the model runs.
    """

    def __init__(self, family: str, parts: PointParts, class_names: Sequence[str]) -> None:
        """Run the neck once on a small empty image to learn its channels; nothing of the model changes."""
        self.family = family
        self.model: nn.Module = parts.model
        self.class_names = tuple(class_names)
        self.provides = given(has_edges=parts.has_edges)
        self.architecture: tuple[str, str] = (family, parts.backbone)
        self.image_size = parts.image_size
        self.build_arguments: dict[str, Any] | None = None
        self.pixels: tuple[Sequence[float], Sequence[float]] = parts.pixels
        self._parts = parts
        self.levels = _describe_levels(parts)

    @property
    def _own(self) -> PointParts:
        """The parts of `model`, in whose place another of the same architecture may stand, such as a moving average."""
        if self._parts.model is self.model:
            return self._parts
        parts = copy(self._parts)
        parts.model = self.model
        return parts

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to `image_size`, aspect kept, and lay on the square."""
        return make_batch(self, images, targets)

    @property
    def selection(self) -> Selection:
        """The library's own selection of detections."""
        return self._own.selection

    @property
    def transform(self) -> GeneralizedRCNNTransform:
        """torchvision's resizing with this detector's numbers."""
        short, limit = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        return GeneralizedRCNNTransform(short, limit, list(self.pixels[0]), list(self.pixels[1]))

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; the head and the task losses only where `needs` asks for them."""
        images = self._normalised(batch)
        size_hw = (int(images.shape[2]), int(images.shape[3]))
        if needs <= {Need.FEATURES}:
            features = self._own.neck(images)
            return Observation(levels=self.levels, input_size_hw=size_hw, features=features)
        parts = self._own
        features, answer = parts.run(images)
        scored = parts.scored(answer, features)
        losses: dict[str, Tensor] = {}
        assignment = None
        if needs & {Need.ASSIGNMENT, Need.LOSSES}:
            assert targets is not None, "task losses and assignment need targets"
            with full_precision(images):
                losses, assignment = parts.losses(images, answer, targets)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=features,
            class_logits=scored.class_logits,
            quality_logits=scored.quality_logits,
            boxes=scored.boxes,
            edge_logits=scored.edge_logits,
            assignment=assignment,
            anchors_per_cell=(1,) * len(features),
            cells_hw=grids(features),
            losses=losses,
        )

    def at(self, progress: float) -> None:
        """The passes that follow are at this fraction of a run."""
        self._parts.progress = progress

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the library's own threshold and NMS."""
        return choose(self.candidates(self._normalised(batch)), self.selection, batch.sizes_hw)

    def candidates(self, images: Tensor) -> Candidates:
        """Scores N×A×K and boxes N×A×4 of normalised images (evaluation mode)."""
        parts = self._own
        features, answer = parts.run(images)
        scored = parts.scored(answer, features, final=True)
        counts = tuple(h * w for h, w in grids(features))
        return Candidates(scores=parts.scores(scored), boxes=scored.boxes, counts=counts)

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits N×A×K of this head on given neck outputs."""
        return self._own.scored(self._own.head(list(features)), features).class_logits

    def native_state(self) -> dict[str, Tensor]:
        """The library's own state_dict."""
        return self.model.state_dict()

    def _normalised(self, batch: Batch) -> Tensor:
        """The batch as the model wants it, grey beyond the images."""
        images = batch.images
        height, width = images.shape[-2:]
        if any(size != (height, width) for size in batch.sizes_hw):
            inside = torch.zeros(len(images), 1, height, width, dtype=torch.bool, device=images.device)
            for row, (h, w) in zip(inside, batch.sizes_hw, strict=True):
                row[:, :h, :w] = True
            images = images.where(inside, GREY)
        return self.transform.normalize(images).contiguous(memory_format=torch.channels_last)


def cell_points(features: Sequence[Tensor], strides: Sequence[int], offset: float) -> tuple[Tensor, Tensor]:
    """Return where the cells of all levels stand: x, y in pixels (A×2) and pixels per cell (A×1), float32.

    Args:
        features: one map per level.
        strides: of the levels.
        offset: of a cell's point in cells; 0.5 = its centre, 0 = its corner.
    """
    points: list[Tensor] = []
    scales: list[Tensor] = []
    for feature, stride in zip(features, strides, strict=True):
        height, width = feature.shape[2:]
        y = torch.arange(height, device=feature.device, dtype=torch.float32)
        x = torch.arange(width, device=feature.device, dtype=torch.float32)
        y, x = torch.meshgrid(y, x, indexing="ij")
        points.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + offset) * stride)
        scales.append(torch.full_like(points[-1][:, :1], stride))
    return torch.cat(points), torch.cat(scales)


def boxes_around(points_A2: Tensor, distances: Tensor) -> Tensor:
    """Return N×A×4 boxes whose left, top, right and bottom edges lie so many pixels from the points."""
    return torch.cat([points_A2 - distances[..., :2], points_A2 + distances[..., 2:]], dim=-1)


def expected_bin(edge_logits: Tensor) -> Tensor:
    """Return the mean bin of each edge's distribution, float32: …×B → …."""
    # No product of matrices, which autocast would compute in half precision.
    bins = torch.arange(edge_logits.shape[-1], dtype=torch.float32, device=edge_logits.device)
    return (edge_logits.float().softmax(-1) * bins).sum(-1)


def _describe_levels(parts: PointParts) -> tuple[Level, ...]:
    side = 2 * max(parts.strides)
    like = next(parts.model.parameters())
    image = torch.zeros(1, 3, side, side, device=like.device, dtype=like.dtype)
    with torch.no_grad(), evaluating(parts.model):
        maps = parts.neck(image)
        parts.scored(parts.head(list(maps)), maps)
    pairs = zip(maps, parts.strides, strict=True)
    return tuple(Level(str(i), int(feature.shape[1]), stride, (POINT,)) for i, (feature, stride) in enumerate(pairs))
