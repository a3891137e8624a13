"""The handful of types that cross a layer.

Legend for tensor shapes, here and everywhere: N images, C channels, H W height and width, A anchors or
points of all levels, Q queries, K classes (columns of the model's own class layer), M objects of one image,
P proposals of the whole batch. Boxes are x1 y1 x2 y2 in pixels of the network input, float32.
A label is an index into the `class_names` of whoever speaks: `class_names[label]` is its name.
"""

from collections.abc import ItemsView, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

SizeHW = tuple[int, int]
ImageSize = int | tuple[int, int]
"""The long side in pixels, or (short side, its limit for the long side)."""
Canvas = Literal["pad", "letterbox", "stretch"]
"""How images of any shape become one input.

pad: the aspect is kept, and a batch is padded to a multiple of 32 of its largest image. letterbox: the aspect is kept,
and every image lies at the top left of a square. stretch: every image fills the square, its aspect is not kept.
"""
Activation = Literal["sigmoid", "softmax"]
Anchor = tuple[float, float, float, float]
"""x1 y1 x2 y2 in cells, from the top left corner of the cell that it belongs to; a point has no extent."""


class Target(TypedDict):
    """The objects of one image, torchvision's own convention."""

    boxes: Tensor
    """M×4 float32, x1 y1 x2 y2."""
    labels: Tensor
    """M int64."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image after augmentation, not yet padded."""

    image: Tensor
    """3×H×W uint8."""
    target: Target
    image_id: int
    original_size_hw: SizeHW
    """Size of the file's image, to which predictions are scaled back."""
    teacher_image: Tensor | None = None
    """The same crop at the size of a teacher that sees other sizes, 3×H×W uint8."""
    corners: Tensor | None = None
    """2×2 float32: where x, y of the whole image's top left and bottom right corner lie in pixels of this one. Left and
    right are swapped where it is flipped; outside where it is cropped. None = not known."""
    canvas_hw: SizeHW | None = None
    """What it is laid on, whatever else is in its batch; None = as much as its batch needs."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What teacher and student both see: the very same pixels, unnormalised; each model normalises for itself."""

    images: Tensor
    """N×3×H×W float32 in 0…1, zero-padded at the right and bottom to a multiple of 32."""
    sizes_hw: list[SizeHW]
    """The part of each image that is no padding."""
    original_sizes_hw: list[SizeHW]
    image_ids: list[int]
    targets: list[Target] | None = None
    teacher_images: Tensor | None = None
    """The same canvas for a teacher of another input size, N×3×H×W; None where the teacher sees `images`."""
    corners: Tensor | None = None
    """N×2×2: as a sample's; None = not known."""

    def for_teacher(self) -> "Batch":
        """What the teacher sees, in pixels of its own input; without targets."""
        if self.teacher_images is None:
            return replace(self, targets=None)
        (height, width), (own_height, own_width) = self.images.shape[-2:], self.teacher_images.shape[-2:]
        ratios = own_height / height, own_width / width
        sizes = [(max(1, round(h * ratios[0])), max(1, round(w * ratios[1]))) for h, w in self.sizes_hw]
        corners = None
        if self.corners is not None:
            corners = self.corners * self.corners.new_tensor([own_width / width, own_height / height])
        changes = {"images": self.teacher_images, "teacher_images": None, "sizes_hw": sizes, "corners": corners}
        return replace(self, targets=None, **changes)

    def only(self, rows: Sequence[int]) -> "Batch":
        """The batch with these images alone."""
        return replace(
            self,
            images=self.images[list(rows)],
            sizes_hw=[self.sizes_hw[i] for i in rows],
            original_sizes_hw=[self.original_sizes_hw[i] for i in rows],
            image_ids=[self.image_ids[i] for i in rows],
            targets=None if self.targets is None else [self.targets[i] for i in rows],
            teacher_images=None if self.teacher_images is None else self.teacher_images[list(rows)],
            corners=None if self.corners is None else self.corners[list(rows)],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        targets = self.targets and [
            Target(boxes=target["boxes"].to(device), labels=target["labels"].to(device)) for target in self.targets
        ]
        larger = None if self.teacher_images is None else self.teacher_images.to(device)
        return replace(self, images=self.images.to(device), targets=targets, teacher_images=larger)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What a detector says about one image; best score first."""

    boxes: Tensor
    """M×4 float32."""
    scores: Tensor
    """M float32 in 0…1."""
    labels: Tensor
    """M int64, indices into the detector's class_names."""


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


@dataclass(frozen=True, kw_only=True)
class HeadFeatures:
    """What stands after one hidden layer of a dense head, before the activation: one N×C×H×W per level and branch."""

    classes: list[Tensor]
    boxes: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one forward pass revealed; only what was asked for is filled.

    Under mixed precision `features` and `head_features` have the precision in which they were computed. Everything else
    is float32: what heads say, boxes, proposals and losses.
    """

    levels: tuple[Level, ...]
    input_size_hw: SizeHW
    features: list[Tensor] | None = None
    """Neck outputs, one N×C×H×W per level."""
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
    """Per level; with the features' sizes this splits the A axis."""
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
    head_features: tuple[HeadFeatures, ...] = ()
    """One per hidden layer of the head, the first after its first layer."""

    def level_logits(self, class_logits: Tensor) -> list[Tensor]:
        """Class logits N×A×K of this pass as maps: one N×(A·K)×H×W per level, A here the anchors of one cell."""
        counts = [h * w * a for (h, w), a in zip(self.cells_hw, self.anchors_per_cell, strict=True)]
        levels = zip(class_logits.split(counts, dim=1), self.cells_hw, self.anchors_per_cell, strict=True)
        return [p.reshape(len(p), h, w, a * p.shape[2]).permute(0, 3, 1, 2) for p, (h, w), a in levels]


@dataclass(frozen=True)
class Pull:
    """A weighted term's gradient at the student's neck outputs, against that of the task losses."""

    share: float
    """Norm of the term's / norm of the task's."""
    cosine: float
    """Between the two; negative where distillation pulls against the task."""


@dataclass(frozen=True, kw_only=True)
class LossReport:
    """The loss of one step; read like a dict it is its parts, as torchvision's detectors return their losses."""

    total: Tensor
    """Always the sum of `parts`."""
    parts: dict[str, Tensor]
    """Weighted scalars by name: the task's own (`task/…`) and one per term."""
    pulls: dict[str, Pull] = field(default_factory=dict[str, Pull])
    """By term, of a step that was measured."""

    # No Mapping by inheritance: engines rebuild every Mapping that a module returns, and could not rebuild this one.
    def __getitem__(self, name: str) -> Tensor:
        """One part."""
        return self.parts[name]

    def keys(self) -> KeysView[str]:
        """Names of the parts."""
        return self.parts.keys()

    def values(self) -> ValuesView[Tensor]:
        """The parts."""
        return self.parts.values()

    def items(self) -> ItemsView[str, Tensor]:
        """Names and parts."""
        return self.parts.items()


class Detector(Protocol):
    """One detector of any family, as the rest of the house sees it."""

    family: str
    """As in a recipe's `detector:`."""
    architecture: tuple[str, str]
    """The kinds of detector and backbone, whatever their size and however it was made."""
    model: nn.Module
    """The library's own module, untouched; its state_dict is the student file."""
    class_names: tuple[str, ...]
    """One name per column of the class layer; background and unused columns keep their place. Empty: it knows none."""
    levels: tuple[Level, ...]
    gives: frozenset[Need]
    """What `observe` can reveal."""
    predicts: bool
    """Whether `predict` has an answer; a model that gives features alone has none, and no AP."""
    image_size: ImageSize
    """Long side, or short side and its limit, to which images are resized before the model sees them."""
    canvas: Canvas
    """How they are, in training and afterwards; as its own library has it, where nobody said otherwise."""
    build_arguments: dict[str, Any] | None
    """What rebuilds the architecture, written into the weights file; None where a module that the user brought does
    not say."""

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to the model's own input size and pad a list of 3×H×W images (0…1) with their targets."""
        ...

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """One forward pass that computes what `needs` names and nothing beyond it."""
        ...

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections in pixels of the network input, after the model's own post-processing."""
        ...

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits of this detector's head on given features: N×A×K, or P×K on given proposals."""
        ...

    def native_state(self) -> dict[str, Tensor]:
        """The weights under the library's own key names."""
        ...


@runtime_checkable
class Phased(Protocol):
    """A detector whose own task losses may change over a run, as its library's trainer changes them."""

    def at(self, progress: float) -> None:
        """The passes that follow are at this fraction of the run, 0…1; without a call the losses stay as built."""
        ...


@runtime_checkable
class DividedHead(Protocol):
    """A detector whose head can be entered half-way; it lists `Need.HEAD_FEATURES` in its `gives`."""

    def finish_head(self, hidden: HeadFeatures, after: int, own: Observation) -> Observation:
        """What the rest of this head makes of maps that stand after its `after`-th hidden layer.

        Args:
            hidden: maps with this head's own channels; they are not changed.
            after: how many hidden layers they have behind them, from 1 on.
            own: this detector's observation of the same images, with its features.

        Returns:
            `own` with these class logits, quality logits and boxes.
        """
        ...
