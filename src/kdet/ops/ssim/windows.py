"""Gaussian windows and the blur of a feature map with them.

Legend: N images, C channels, H W height and width.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Border = Literal["reflect", "replicate"]
_MOST_CELLS = 1023
"""No feature map has as many; a slip beyond would never end."""


def check_window(window: int, sigma: float) -> None:
    """Raises ValueError unless the window has a middle and the Gaussian a width."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"expected an odd window of at least 1, got {window}")
    if window > _MOST_CELLS:
        raise ValueError(f"expected a window of at most {_MOST_CELLS} cells, got {window}")
    if sigma <= 0:
        raise ValueError(f"expected a sigma above 0, got {sigma}")


def gaussian(window: int, sigma: float, like: Tensor) -> Tensor:
    """Return the weights of a sampled Gaussian that sum to 1, on the device and in the dtype of `like`."""
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    return (weights / weights.sum()).to(like)


def border(size_hw: tuple[int, int], window: int) -> Border:
    """Return how the map goes on outside: mirrored; its edge repeated, on both axes, where a side is too short.

    Zeros outside would bias the means of the border cells; a smaller window would make levels incomparable.
    """
    return "reflect" if min(size_hw) > window // 2 else "replicate"


def blur(maps_NCHW: Tensor, window: int, sigma: float) -> Tensor:
    """Return the mean under the window around each cell, each channel by itself; the size stays."""
    channels, height, width = maps_NCHW.shape[1:]
    margin = window // 2
    weights = gaussian(window, sigma, maps_NCHW)
    padded = F.pad(maps_NCHW, (margin,) * 4, mode=border((height, width), window))
    down = F.conv2d(padded, weights.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(down, weights.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
