"""Losses are computed in float32 whatever the caller's mixed precision says."""

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a context in which autocast on the tensor's device is off."""
    return torch.autocast(tensor.device.type, enabled=False)
