"""The one rule for the size of images and of the canvas that they lie on, and the canvas of a larger teacher."""

import math
from collections.abc import Sequence
from typing import get_args

from torch import Tensor
from torch.nn import functional as F

from kdet.errors import InputError
from kdet.types import Canvas, ImageSize, SizeHW

CANVASES: tuple[Canvas, ...] = get_args(Canvas)
PAD_MULTIPLE = 32


def resized_hw(size_hw: SizeHW, image_size: ImageSize, canvas: Canvas = "pad", factor: float = 1.0) -> SizeHW:
    """Return the size of an image after resizing, at least one pixel a side.

    With the aspect kept these are the numbers of torchvision's GeneralizedRCNNTransform for factor 1, and of
    libreyolo's letterbox.

    Args:
        size_hw: of the image.
        image_size: long side, or short side and limit.
        canvas: how it is laid there.
        factor: multiplies both sides.

    Raises:
        InputError: a square canvas without its side.
    """
    if canvas == "stretch":
        side = math.floor(side_of(image_size, canvas) * factor)
        return max(1, side), max(1, side)
    short, limit = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    if canvas == "letterbox":
        short = limit = side_of(image_size, canvas)
    scale = min(short / min(size_hw), limit / max(size_hw)) * factor
    return max(1, math.floor(size_hw[0] * scale)), max(1, math.floor(size_hw[1] * scale))


def canvas_hw(image_size: ImageSize, canvas: Canvas) -> SizeHW | None:
    """Return the canvas that every image lies on; None with `pad`, where it follows from the images of a batch.

    Raises:
        InputError: a square canvas without its side.
    """
    if canvas == "pad":
        return None
    side = side_of(image_size, canvas)
    return padded_hw((side, side))


def side_of(image_size: ImageSize, canvas: Canvas) -> int:
    """Return the side of a square canvas.

    Raises:
        InputError: a short side with its limit, which only images that keep their aspect and their own canvas have.
    """
    if isinstance(image_size, int):
        return image_size
    raise InputError(
        f"image_size: {list(image_size)} is a short side and its limit, but canvas {canvas} is a square; give its side "
        "alone, such as image_size: 640, or ask for canvas: pad"
    )


def described(image_size: ImageSize, canvas: Canvas) -> str:
    """Describe a canvas in words.

    Raises:
        InputError: a square canvas without its side.
    """
    if (square_hw := canvas_hw(image_size, canvas)) is not None:
        inner = "" if image_size == square_hw[0] else f" with images of {image_size} px"
        return f"{canvas} {square_hw[0]}×{square_hw[1]}{inner}"
    sides = f"long side {image_size}" if isinstance(image_size, int) else "short side {}, limit {}".format(*image_size)
    return f"{canvas}, {sides}, to a multiple of {PAD_MULTIPLE}"


def padded_hw(size_hw: tuple[float, float]) -> SizeHW:
    """Return the next size that every stride up to 32 divides."""
    height, width = (-(-round(side) // PAD_MULTIPLE) * PAD_MULTIPLE for side in size_hw)
    return height, width


def teacher_canvas(images: Sequence[Tensor], sizes_hw: Sequence[SizeHW], canvas_hw: SizeHW, scale: float) -> Tensor:
    """Return the images at `scale` times the student's size, so that a cell of one canvas is a cell of the other.

    Where `scale` times the canvas is no multiple of 32, the teacher's is rounded up and its images are stretched by as
    much, so that both canvases still show the same.

    Args:
        images: 3×H×W float in 0…1, the student's crops at any size.
        sizes_hw: what each image measures on the student's canvas.
        canvas_hw: the student's canvas.
        scale: of the teacher's input size to the student's.

    Returns:
        N×3×H×W, zero-padded.
    """
    height, width = padded_hw((canvas_hw[0] * scale, canvas_hw[1] * scale))
    canvas = images[0].new_zeros(len(images), 3, height, width)
    for slot, image, (h, w) in zip(canvas, images, sizes_hw, strict=True):
        size_hw = (max(1, round(h * height / canvas_hw[0])), max(1, round(w * width / canvas_hw[1])))
        if image.shape[-2:] != size_hw:
            image = F.interpolate(image[None], size_hw, mode="bilinear", antialias=True).clamp(0, 1)[0]
        slot[:, : size_hw[0], : size_hw[1]] = image
    return canvas
