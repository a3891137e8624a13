"""Augmentation for training: crop, flip, scale jitter and the network's size, and at last the colours."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kdet.data.resize import resize
from kdet.errors import InputError
from kdet.ops.canvas import canvas_hw, resized_hw, side_of
from kdet.types import Canvas, ImageSize, SizeHW, Target

MIN_SIDE_PX = 1.0
"""An object of which less than this is left is no object any more."""
MIN_CROP_PX = 8
"""Images with a shorter side are not cropped: nothing would be left of them."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training image."""

    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: float = 0.0
    """Probability of a vertical flip; for images without an up, such as cells or aerial views."""
    scale: tuple[float, float] | None = None
    """Range of the image's size relative to `image_size`; larger than 1 is cropped back at random. None = always 1."""
    crop: float = 0.0
    """Probability of a random crop that keeps objects (as SSD was trained)."""
    photometric: float = 0.0
    """Strength of the change in brightness, contrast, saturation and hue: 0 none, 1 strong."""

    def __post_init__(self) -> None:
        for name in ("flip", "vertical_flip", "crop", "photometric"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation {name}: expected 0…1, got {getattr(self, name)}")
        if self.scale is not None and not 0.05 <= self.scale[0] <= self.scale[1] <= 10:
            raise InputError(f"augmentation scale: expected a range within 0.05…10, got {list(self.scale)}")


NO_AUGMENTATION = Augmentation(flip=0.0)


class Viewed(NamedTuple):
    """An image as a pipeline made it."""

    image: Tensor
    """3×H×W uint8."""
    target: Target
    larger: Tensor | None
    """The image for a teacher of another input size: with the same colours, flips and crop."""
    corners: Tensor
    """Corners of the whole image, as in `Sample.corners`."""


class Pipeline:
    """One image and its objects through an augmentation; draws from torch's own generator."""

    def __init__(
        self,
        image_size: ImageSize,
        augmentation: Augmentation = NO_AUGMENTATION,
        *,
        canvas: Canvas = "pad",
        teacher_scale: float = 1.0,
    ) -> None:
        """Settle what happens to every image.

        Args:
            image_size: long side, or short side and limit.
            augmentation: what happens at random.
            canvas: the student's.
            teacher_scale: how many times larger the teacher's images are than the student's.

        Raises:
            InputError: a square canvas without its side.
        """
        self.image_size = image_size
        self.canvas: Canvas = canvas
        self.canvas_hw = canvas_hw(image_size, canvas)
        """Size of the canvas, as in `Sample.canvas_hw`."""
        self.augmentation = augmentation
        self.teacher_scale = teacher_scale
        strength = augmentation.photometric
        self.colour = v2.ColorJitter(0.4 * strength, 0.4 * strength, 0.4 * strength, 0.05 * strength)
        crop = [v2.RandomApply([v2.RandomIoUCrop()], augmentation.crop)] if augmentation.crop else []
        flips = [v2.RandomHorizontalFlip(augmentation.flip), v2.RandomVerticalFlip(augmentation.vertical_flip)]
        last = [*flips, v2.ClampBoundingBoxes()]
        self.steps = v2.Compose([*crop, *last])
        self.steps_without_crop = v2.Compose(last)

    def plain(self) -> "Pipeline":
        """The same without augmentation."""
        return Pipeline(self.image_size, canvas=self.canvas, teacher_scale=self.teacher_scale)

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        """A 3×H×W uint8 image with boxes in its pixels → the same at the network's size, every box valid."""
        viewed = self.viewed(image, target)
        return viewed.image, viewed.target

    def viewed(self, image: Tensor, target: Target) -> Viewed:
        """The same, with what a teacher needs to see or to know of it."""
        boxes, corners = target["boxes"], torch.tensor([[0.0, 0.0], [image.shape[-1], image.shape[-2]]])
        if self.augmentation != NO_AUGMENTATION:
            image, boxes, corners = self._augmented(image, boxes)
        factor = self._drawn_factor()
        whole = image
        image, boxes = resize(image, boxes, self.image_size, self.canvas, factor)
        corners = corners * torch.tensor([image.shape[-1] / whole.shape[-1], image.shape[-2] / whole.shape[-2]])
        larger = self._larger(whole, (image.shape[-2], image.shape[-1]))
        if factor > 1:
            size_hw = self._window_hw(whole, image)
            top, left = _random_corner(image, size_hw)
            image, boxes = _window(image, boxes, size_hw, top, left)
            corners = corners - torch.tensor([left, top])
            if larger is not None:
                (height, width), first = size_hw, (round(top * self.teacher_scale), round(left * self.teacher_scale))
                rows = slice(first[0], first[0] + round(height * self.teacher_scale))
                larger = larger[:, rows, first[1] : first[1] + round(width * self.teacher_scale)]
        if self.augmentation.photometric:  # last, for it takes longest, and here the image is small
            image, larger = self._recoloured(image, larger)
        valid = _valid(boxes, target["labels"], (image.shape[-2], image.shape[-1]))
        return Viewed(image, valid, larger, corners)

    def _larger(self, image: Tensor, size_hw: SizeHW) -> Tensor | None:
        """The whole image at the teacher's size, from its own pixels and not from the student's."""
        if self.teacher_scale == 1:
            return None
        return F.resize(image, [max(1, round(side * self.teacher_scale)) for side in size_hw], antialias=True)

    def _window_hw(self, whole: Tensor, image: Tensor) -> SizeHW:
        """What is kept of an image that was made too large: as much as there is room for."""
        if self.canvas == "pad":
            return resized_hw((whole.shape[-2], whole.shape[-1]), self.image_size)
        side = side_of(self.image_size, self.canvas)
        return min(side, image.shape[-2]), min(side, image.shape[-1])

    def _augmented(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What torchvision's transforms do to image, boxes and corners; the order of the objects stays."""
        size_hw = (image.shape[-2], image.shape[-1])
        # torchvision's key points are whole pixels: those in the two corners.
        ends: Any = tv_tensors.KeyPoints([[0.0, 0.0], [size_hw[1] - 1.0, size_hw[0] - 1.0]], canvas_size=size_hw)  # pyright: ignore[reportCallIssue]
        given = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size_hw)  # pyright: ignore[reportCallIssue]
        steps = self.steps if min(size_hw) >= MIN_CROP_PX else self.steps_without_crop
        changed, boxes_after, ends = steps(tv_tensors.Image(image), given, ends)
        ends = ends.as_subclass(Tensor)
        outward = torch.where(ends[1] < ends[0], -0.5, 0.5)
        corners = ends + 0.5 + torch.stack([-outward, outward])
        return changed.as_subclass(Tensor), boxes_after.as_subclass(Tensor), corners

    def _recoloured(self, image: Tensor, larger: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both in the same colours. torchvision takes only the first plain tensor for an image."""
        given = [tv_tensors.Image(one) for one in (image, larger) if one is not None]
        changed = [one.as_subclass(Tensor) for one in self.colour(given)]
        return changed[0], None if larger is None else changed[1]

    def _drawn_factor(self) -> float:
        if self.augmentation.scale is None:
            return 1.0
        low, high = self.augmentation.scale
        return low + (high - low) * float(torch.rand(()))


def _random_corner(image: Tensor, size_hw: SizeHW) -> SizeHW:
    """Top and left of a window of this size."""
    top = int(torch.randint(image.shape[-2] - size_hw[0] + 1, ()))
    return top, int(torch.randint(image.shape[-1] - size_hw[1] + 1, ()))


def _window(image: Tensor, boxes: Tensor, size_hw: SizeHW, top: int, left: int) -> tuple[Tensor, Tensor]:
    """Cut an image back to a window; objects whose centre is outside lose their area."""
    height, width = size_hw
    moved = boxes - torch.tensor([left, top, left, top], dtype=boxes.dtype)
    centres = (moved[:, :2] + moved[:, 2:]) / 2
    inside = ((centres >= 0) & (centres < torch.tensor([width, height]))).all(dim=1)
    return image[:, top : top + height, left : left + width], moved * inside[:, None]


def _valid(boxes: Tensor, labels: Tensor, size_hw: tuple[int, int]) -> Target:
    """Boxes inside the image and with an area; the others are gone."""
    height, width = size_hw
    upper = torch.tensor([width, height, width, height], dtype=torch.float32)
    clamped = torch.minimum(boxes.to(torch.float32).clamp(min=0), upper)
    keep = ((clamped[:, 2:] - clamped[:, :2]) >= MIN_SIDE_PX).all(dim=1)
    return Target(boxes=clamped[keep], labels=labels[keep])
