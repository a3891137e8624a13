"""A detector that no library knows, in the ways in which people write them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kdet
from kdet.types import Detector

STRIDES = (8, 16, 32)
FEATURES = ("neck[p3]", "neck['p4']", "neck[p5]")


class Neck(nn.Module):
    """Three levels in a dictionary."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(2))

    def forward(self, first: Tensor) -> dict[str, Tensor]:
        second = self.down[0](first)
        return {"p3": first, "p4": second, "p5": self.down[1](second)}


class Custom(nn.Module):
    """Stem, neck, and a head that scores each cell of the finest level."""

    def __init__(self, channels: int = 8, *, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 8, 8), nn.BatchNorm2d(channels), nn.ReLU(inplace=inplace))
        self.neck = Neck(channels)
        self.head = nn.Conv2d(channels, 3, 1)
        self.spare = nn.Conv2d(channels, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.neck(self.stem(images))["p3"])


def losses(module: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """How many objects of each class there are."""
    counts = torch.stack([F.one_hot(target["labels"], 3).sum(0) for target in targets]).float()
    return {"count": F.mse_loss(module(images).mean((2, 3)), counts)}


def predict(module: nn.Module, images: Tensor, sizes_hw: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
    """Two boxes an image, the worse one first."""
    module(images)
    boxes = [torch.tensor([[0.0, 0, 1, 1], [0, 0, w, h]]) for h, w in sizes_hw]
    return [{"boxes": b, "scores": torch.tensor([0.2, 0.9]), "labels": torch.tensor([1, 2])} for b in boxes]


def wrapped(model: nn.Module | None = None, **options: Any) -> Detector:
    """The custom detector by its neck."""
    torch.manual_seed(5)
    defaults = {"classes": ("circle", "square", "triangle"), "features": FEATURES, "strides": STRIDES}
    return kdet.wrap(model or Custom(), **(defaults | options))


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
