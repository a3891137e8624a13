"""Images on their way into a detector, and the boxes on them; the legend is the package's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import torch
from torch import Tensor

SizeHW = tuple[int, int]
ImageSize = int | tuple[int, int]
"""The long side in pixels, or (short side, its limit for the long side)."""
Canvas = Literal["pad", "letterbox", "stretch"]
"""How images of any shape become one input.

pad: the aspect is kept, and a batch is padded to a multiple of 32 of its largest image. letterbox: the aspect is kept,
and every image lies at the top left of a square. stretch: every image fills the square, its aspect is not kept.
"""


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
        ratio_h, ratio_w = own_height / height, own_width / width
        sizes = [(max(1, round(h * ratio_h)), max(1, round(w * ratio_w))) for h, w in self.sizes_hw]
        corners = None
        if self.corners is not None:
            corners = self.corners * self.corners.new_tensor([ratio_w, ratio_h])
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
