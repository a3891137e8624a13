"""The one rule for the size of an image in the network, and the path without augmentation."""

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kdet.errors import InputError
from kdet.types import SizeHW

ImageSize = int | tuple[int, int]
"""The long side in pixels, or (short side, its limit for the long side)."""
MOST_PX = 16_384
"""Of a side; more is a slip that would fill the memory."""


def image_size_of(value: int | list[int] | tuple[int, ...]) -> ImageSize:
    """A recipe's `image_size`.

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


def resized_hw(size_hw: SizeHW, image_size: ImageSize, factor: float = 1.0) -> SizeHW:
    """Size after resizing; the same numbers as torchvision's GeneralizedRCNNTransform for factor 1."""
    short, limit = (image_size, image_size) if isinstance(image_size, int) else image_size
    scale = min(short / min(size_hw), limit / max(size_hw)) * factor
    return max(1, math.floor(size_hw[0] * scale)), max(1, math.floor(size_hw[1] * scale))


def resize(image: Tensor, boxes_xyxy: Tensor, image_size: ImageSize, factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """An image (3×H×W uint8) and its boxes (M×4) at the network's size, times a factor."""
    height, width = image.shape[-2:]
    size_hw = resized_hw((height, width), image_size, factor)
    if size_hw == (height, width):
        return image, boxes_xyxy
    ratios = torch.tensor([size_hw[1] / width, size_hw[0] / height] * 2, dtype=boxes_xyxy.dtype)
    return F.resize(image, list(size_hw), antialias=True), boxes_xyxy * ratios
