"""What a pass through a detector reveals, and what may be asked of it; the legend is the package's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from torch import Tensor

from kdet.types.batch import SizeHW

Activation = Literal["sigmoid", "softmax"]
Anchor = tuple[float, float, float, float]
"""x1 y1 x2 y2 in cells, from the top left corner of the cell that it belongs to; a point has no extent."""


@dataclass(frozen=True)
class Level:
    """One output of a detector's neck."""

    name: str
    channels: int
    stride: int
    anchors: tuple[Anchor, ...] = field(default=(), repr=False)
    """What a dense head scores in each cell, in its order; () of other heads, and where it is not known."""


class Need(StrEnum):
    """What a loss may read; declared by the term, asked of the detector."""

    FEATURES = "features"
    CLASS_LOGITS = "class logits"
    BOXES = "boxes"
    ASSIGNMENT = "assignment"
    LOSSES = "task losses"
    PROPOSALS = "proposals"
    HEAD_FEATURES = "head features"
    EDGE_LOGITS = "edge distributions"
    QUERIES = "queries"
    MEMORY = "encoder memory"
    DECODER = "decoder"


@dataclass(frozen=True, kw_only=True)
class HeadFeatures:
    """What stands after one hidden layer of a dense head, before the activation: one N×C×H×W per level and branch."""

    classes: list[Tensor]
    boxes: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class QueryDecoder:
    """The decoder of a detector that predicts a set, over the images of one pass."""

    queries: Mapping[str, Tensor]
    """Its own, as it was asked them, by name; N×Q×…"""
    answer: Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]
    """What it says of such queries: logits N×Q×K before the activation, boxes N×Q×4 as `query_boxes` are."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one forward pass revealed; only what was asked for is filled.

    Under mixed precision `features` and `head_features` have the precision in which they were computed. Everything else
    is float32: what heads say, boxes, proposals and losses.
    """

    levels: tuple[Level, ...]
    input_size_hw: SizeHW
    features: list[Tensor] | None = None
    """Neck outputs, one N×C×H×W per level; `Need.MEMORY` where they are what a transformer's encoder gives."""
    class_logits: Tensor | None = None
    """N×A×K before the activation; anchors ordered level by level, row by row, then anchor of the cell."""
    quality_logits: Tensor | None = None
    """N×A, centreness (FCOS, ATSS): multiplies the class score before NMS. None where the class score stands alone."""
    boxes: Tensor | None = None
    """N×A×4 decoded boxes."""
    edge_logits: Tensor | None = None
    """N×A×4×B, of heads that predict a distribution over B distances for each edge of a box (left, top, right, bottom),
    before the softmax."""
    assignment: Tensor | None = None
    """N×A int64: index of the image's object, -1 background, -2 ignored."""
    anchors_per_cell: tuple[int, ...] = ()
    """Number of anchors in a cell of each level; with the features' sizes this splits the A axis."""
    cells_hw: tuple[SizeHW, ...] = ()
    """Height and width of each level's grid."""
    activation: Activation = "sigmoid"
    losses: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """The model's own task losses, scalars."""
    proposals: list[Tensor] | None = None
    """Two-stage students: the sampled regions of each image, P_i×4."""
    proposal_labels: list[Tensor] | None = None
    """Their assigned labels, 0 = background."""
    proposal_logits: Tensor | None = None
    """P×K class logits of the sampled regions."""
    query_logits: Tensor | None = None
    """N×Q×K before the activation, of detectors that predict a set; without the extra queries of their training."""
    query_boxes: Tensor | None = None
    """N×Q×4, in the order of `query_logits`."""
    decoder: QueryDecoder | None = None
    """Decoder of detectors that predict a set; it keeps what it needs of this pass."""
    head_features: tuple[HeadFeatures, ...] = ()
    """One per hidden layer of the head, the first after its first layer."""

    def level_logits(self, class_logits: Tensor) -> list[Tensor]:
        """Class logits N×A×K of this pass as maps: one N×(A·K)×H×W per level, A here the anchors of one cell."""
        counts = [h * w * a for (h, w), a in zip(self.cells_hw, self.anchors_per_cell, strict=True)]
        levels = zip(class_logits.split(counts, dim=1), self.cells_hw, self.anchors_per_cell, strict=True)
        return [p.reshape(len(p), h, w, a * p.shape[2]).permute(0, 3, 1, 2) for p, (h, w), a in levels]
