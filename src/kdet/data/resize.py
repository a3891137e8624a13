"""An image and its boxes at the network's size, by the one rule of `kdet.ops.canvas`."""

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kdet.errors import InputError
from kdet.ops.boxes import scaled
from kdet.ops.canvas import resized_hw
from kdet.types import Canvas, ImageSize

MOST_PX = 16_384
"""Longest side of a resized image; a larger number is a slip that would fill the memory."""


def image_size_of(value: int | list[int] | tuple[int, ...]) -> ImageSize:
    """Check a recipe's `image_size`.

    Raises:
        InputError: neither a positive number nor a short side with its limit.
    """
    if isinstance(value, int):
        numbers = [value]
    else:
        numbers = list(value)
    if len(numbers) not in (1, 2) or min(numbers) < 1 or max(numbers) > MOST_PX or numbers != sorted(numbers):
        raise InputError(
            f"image_size: expected a long side or [short side, limit] in pixels, at most {MOST_PX:,}, got {value}"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def resize(
    image: Tensor, boxes_xyxy: Tensor, image_size: ImageSize, canvas: Canvas = "pad", factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Resize an image (3×H×W uint8) and its boxes (M×4) to the network's size, times a factor."""
    height, width = image.shape[-2:]
    size_hw = resized_hw((height, width), image_size, canvas, factor)
    if size_hw == (height, width):
        return image, boxes_xyxy
    return F.resize(image, list(size_hw), antialias=True), scaled(boxes_xyxy, (height, width), size_hw)
