"""Memory that the chunks of a computation share.

A fresh tensor of some megabytes costs more in page faults than the arithmetic on it, so buffers are kept by name.
"""

from math import prod

import torch
from torch import Tensor


class Scratch:
    """Uninitialised maps in the layout in which the device convolves channels one by one fastest.

    On the CPU that is channels-last, ten times as fast and more. On CUDA it is the contiguous layout: PyTorch's own
    depthwise kernel computes in true float32 there, where cuDNN's channels-last one may round to TF32, and a local
    variance, the difference of two blurs, does not survive that.
    """

    def __init__(self, like: Tensor) -> None:
        self._dtype, self._device = like.dtype, like.device
        self._channels_last = like.device.type == "cpu"
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, maps: int, channels: int, height: int, width: int) -> Tensor:
        """B×C×H×W, overwriting what was last asked for under this name."""
        size = prod((maps, channels, height, width))
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, dtype=self._dtype, device=self._device)
        flat = self._buffers[name][:size]
        if self._channels_last:
            return flat.view(maps, height, width, channels).permute(0, 3, 1, 2)
        return flat.view(maps, channels, height, width)
