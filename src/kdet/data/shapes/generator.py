"""The generated data set: shapes on textured ground with exact boxes; image i follows from (seed, split, i) alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdet.data.index import DetectionIndex, Names, as_labels, offsets_of
from kdet.data.shapes.drawing import draw
from kdet.data.shapes.layout import SHAPES, Layout, lay_out
from kdet.errors import InputError
from kdet.ops.randomness import seed_of

_SPLITS = {"train": 0, "val": 1}
_MOST_IMAGES = 1_000_000
"""All are laid out before the first is drawn."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Settings of the generated images; all keys that `{format: shapes, …}` may hold."""

    images: int = 2000
    """Number of training images."""
    val_images: int = 500
    """Number of validation images; they never occur among the training images."""
    image_size: int = 96
    """Height and width in pixels."""
    classes: int = 3
    """Number of kinds of shapes, 1…6: circle, square, triangle, star, cross, half-disc."""
    seed: int = 0
    """Seed of the data set."""
    objects: tuple[int, int] = (1, 5)
    """Least and largest number of objects in an image; fewer where they do not fit."""
    scale: tuple[float, float] = (0.12, 0.45)
    """Smallest and largest long side of an object, relative to the image."""
    occlusion: float = 0.3
    """Largest share of an object's box that another object's box may cover, 0…1."""
    rotation: float = 1.0
    """Largest turn of a shape: 0 none, 1 to any angle."""
    texture: float = 0.4
    """Strength of the ground's and the objects' texture, 0…1."""
    clutter: int = 2
    """Largest number of things without a class in an image."""
    noise: float = 0.03
    """Standard deviation of the pixel noise, relative to the range of values."""
    contrast: float = 0.25
    """Smallest distance between an object's colour and the ground's, relative to the range of values."""

    def __post_init__(self) -> None:
        for name in ("images", "val_images"):
            if not 1 <= getattr(self, name) <= _MOST_IMAGES:
                raise InputError(f"shapes {name}: expected 1…{_MOST_IMAGES:,}, got {getattr(self, name)}")
        if not 16 <= self.image_size <= 4096:
            raise InputError(f"shapes image_size: expected 16…4096 pixels, got {self.image_size}")
        if not 1 <= self.classes <= len(SHAPES):
            raise InputError(f"shapes classes: expected 1…{len(SHAPES)}, got {self.classes}")
        if self.seed < 0:
            raise InputError(f"shapes seed: expected 0 or more, got {self.seed}")
        if not 0 <= self.objects[0] <= self.objects[1] <= 200:
            raise InputError(f"shapes objects: expected [fewest, most] within 0…200, got {list(self.objects)}")
        if not 4 / self.image_size <= self.scale[0] <= self.scale[1] <= 0.9:
            raise InputError(f"shapes scale: expected [smallest, largest] from 4 px to 0.9, got {list(self.scale)}")
        for name in ("occlusion", "rotation", "texture", "noise", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"shapes {name}: expected 0…1, got {getattr(self, name)}")
        if not 0 <= self.clutter <= 200:
            raise InputError(f"shapes clutter: expected 0…200, got {self.clutter}")


class ShapesSource:
    """Generated images with the interface of files on the disk."""

    def __init__(self, shapes: Shapes | None = None, *, split: str = "train", hold: bool = True) -> None:
        """Lay out every image; pixels are drawn when first read.

        Args:
            shapes: what to generate.
            split: "train" or "val"; no image is in both.
            hold: whether to keep drawn images in memory (2,000 of 96 px: 55 MB).

        Raises:
            InputError: unknown split.
        """
        if split not in _SPLITS:
            raise InputError(f"generated shapes have the splits {list(_SPLITS)}, not {split!r}")
        self.shapes = shapes or Shapes()
        self.split = split
        self.index = _index_of(self.shapes, split)
        self._held: dict[int, Tensor] | None = {} if hold else None

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        if self._held is not None and i in self._held:
            return self._held[i]
        if not 0 <= i < len(self.index):
            raise IndexError(i)
        shapes = self.shapes
        pixels = draw(
            _layout(shapes, self.split, i),
            _generator(shapes, self.split, i, 1),
            image_size=shapes.image_size,
            texture=shapes.texture,
            noise=shapes.noise,
            contrast=shapes.contrast,
        )
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        if self._held is not None:
            self._held[i] = image
        return image


def _generator(shapes: Shapes, split: str, i: int, stream: int) -> np.random.Generator:
    """Random numbers of one image; layout and pixels have a stream each, so that boxes need no drawing."""
    return np.random.default_rng(seed_of(shapes.seed, _SPLITS[split], i, stream))


def _layout(shapes: Shapes, split: str, i: int) -> Layout:
    return lay_out(
        _generator(shapes, split, i, 0),
        image_size=shapes.image_size,
        classes=shapes.classes,
        objects=shapes.objects,
        scale=shapes.scale,
        occlusion=shapes.occlusion,
        rotation=shapes.rotation,
        clutter=shapes.clutter,
    )


def _index_of(shapes: Shapes, split: str) -> DetectionIndex:
    """The annotations of all images of a split."""
    count = shapes.images if split == "train" else shapes.val_images
    layouts = [_layout(shapes, split, i) for i in range(count)]
    boxes = np.array([item.box_xyxy for layout in layouts for item in layout.objects], np.float32).reshape(-1, 4)
    labels = np.array([item.label for layout in layouts for item in layout.objects], np.int64)
    sides = boxes[:, 2:] - boxes[:, :2]
    return DetectionIndex(
        root=Path(),
        classes=tuple(SHAPES)[: shapes.classes],
        image_ids=np.arange(1, count + 1, dtype=np.int64),
        file_names=Names.of(f"{split}_{i:06d}.png" for i in range(count)),
        sizes_hw=np.full((count, 2), shapes.image_size, np.int32),
        boxes_xyxy=boxes,
        labels=as_labels(labels, shapes.classes),
        crowd=np.zeros(len(boxes), bool),
        areas=np.prod(sides, axis=1, dtype=np.float32),
        offsets=offsets_of(np.array([len(layout.objects) for layout in layouts], np.int64)),
    )
