"""What the heads of our own dense detectors are made of.

Legend: N images, A anchors of all levels or of one cell, K columns of a prediction, H W size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from .backbones import group_norm

NUM_LAYERS = 4
PRIOR = 0.01
"""The class score of every anchor before training, as in RetinaNet."""


class Scale(nn.Module):
    """One learned factor, so that levels which share a head may differ in size."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        """The values, scaled."""
        return values * self.factor


class ClassificationHead(nn.Module):
    """Four convolutions with GroupNorm, then a score per class; shared by all levels."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = tower(channels)
        self.cls_logits = last_layer(channels, num_classes)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # pyright: ignore[reportArgumentType]

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Class logits N×A×K."""
        return rows([self.cls_logits(self.conv(feature)) for feature in features], self.num_classes)


def tower(channels: int) -> nn.Sequential:
    """Build the hidden layers of a branch."""
    layers = [Conv2dNormActivation(channels, channels, norm_layer=group_norm) for _ in range(NUM_LAYERS)]
    for layer in layers:
        nn.init.normal_(layer[0].weight, std=0.01)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(*layers)


def last_layer(channels: int, columns: int) -> nn.Conv2d:
    """Build a 3×3 convolution that predicts."""
    layer = nn.Conv2d(channels, columns, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer


def rows(maps: Sequence[Tensor], columns: int) -> Tensor:
    """Turn maps N×(A·K)×H×W of all levels, A here the anchors of one cell, into N×A×K, A of all levels."""
    split = [m.reshape(m.shape[0], -1, columns, *m.shape[2:]).permute(0, 3, 4, 1, 2) for m in maps]
    return torch.cat([m.reshape(m.shape[0], -1, columns) for m in split], dim=1)
