"""Memory that the chunks of a computation share.

A fresh tensor of some megabytes costs more in page faults than the arithmetic on it, so buffers are kept by name.
"""

from math import prod

import torch
from torch import Tensor


class Scratch:
    """Uninitialised channels-last maps.

    Channels one by one are convolved ten times as fast in this layout and more; `MatrixBlur` would copy any other.
    """

    def __init__(self, like: Tensor) -> None:
        self._dtype, self._device = like.dtype, like.device
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, maps: int, channels: int, height: int, width: int) -> Tensor:
        """B×C×H×W, overwriting what was last asked for under this name."""
        size = prod((maps, channels, height, width))
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, dtype=self._dtype, device=self._device)
        return self._buffers[name][:size].view(maps, height, width, channels).permute(0, 3, 1, 2)
