"""Backbones of torchvision and timm by name, and where their stages end."""

from collections import OrderedDict
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, list_models
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

LIBRARY_BACKBONES = tuple(
    name
    for name in list_models(torchvision.models)
    if name.startswith(("convnext_", "efficientnet_", "regnet_", "shufflenet_v2_"))
)
TIMM = "timm/"
"""Before the name of a network of timm."""
STRIDES = (4, 8, 16, 32)
_SIDE_PX = 64
_OF_SHUFFLENET = ("conv1", "maxpool", "stage2", "stage3", "stage4")


def library_body(backbone: str) -> nn.Module:
    """Build the layers of a network that a detector needs, with the library's own norms and random weights.

    Args:
        backbone: one of LIBRARY_BACKBONES, or `timm/` and the name of a convolutional network of timm.

    Raises:
        ValueError: timm is missing, or the network has no maps of strides 4, 8, 16 and 32.
        RuntimeError: timm has no such network.
    """
    if backbone.startswith(TIMM):
        return TimmBody(backbone.removeprefix(TIMM))
    whole: Any = get_model(backbone, weights=None)
    if backbone.startswith("regnet_"):
        blocks = [("stem", whole.stem), *whole.trunk_output.named_children()]
    elif backbone.startswith("shufflenet_"):
        blocks = [(name, whole.get_submodule(name)) for name in _OF_SHUFFLENET]
    else:
        blocks = list(whole.features.named_children())
        if backbone.startswith("efficientnet_"):
            blocks.pop()  # the classifier's: a 1×1 convolution to four times the channels
    return nn.Sequential(OrderedDict(blocks))


def stage_ends(body: nn.Module) -> list[tuple[int, int]]:
    """Return index and channels of the last block of the strides 2, 4, 8, 16 and 32, by trying an image."""
    training = body.training
    device = next(body.parameters()).device
    ends: dict[int, tuple[int, int]] = {}
    with torch.no_grad():
        maps = torch.zeros(1, 3, _SIDE_PX, _SIDE_PX, device=device)
        body.eval()  # no statistics move
        for index, block in enumerate(body.children()):
            maps = block(maps)
            ends[_SIDE_PX // maps.shape[-1]] = (index, maps.shape[1])
    body.train(training)
    return [ends.get(stride, (-1, 0)) for stride in (2, *STRIDES)]


class TimmBody(nn.Module):
    """A network of timm that gives its maps of strides 4, 8, 16 and 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise ValueError("expected timm for this backbone; install it: pip install timm") from None
        self.net: Any = timm.create_model(name, features_only=True, pretrained=False)
        self._strides: list[int] = self.net.feature_info.reduction()
        if not set(STRIDES) <= set(self._strides):
            raise ValueError(f"expected a network with maps of strides {STRIDES}, got {self._strides}")
        self._chosen = [self._strides.index(stride) for stride in STRIDES]
        self.channels: list[int] = [self.net.feature_info.channels()[index] for index in self._chosen]
        about: Any = timm.get_pretrained_cfg(name)  # the pixels that its weights were trained on
        self.mean, self.std = list(about.mean), list(about.std)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return four maps of normalised images, the finest first."""
        maps = self.net(images)
        return [maps[index] for index in self._chosen]

    def freeze(self, trainable_layers: int) -> None:
        """Fix all that the maps of the first of five stages (strides 2 to 32) depend on.

        A network without a map of stride 2 has its stem in the stage of stride 4.
        """
        last = (1, 2, *STRIDES)[5 - trainable_layers]
        training, images = self.training, torch.zeros(1, 3, _SIDE_PX, _SIDE_PX, device=next(self.parameters()).device)
        self.eval()
        with torch.enable_grad():
            for stride, values in zip(self._strides, self.net(images), strict=True):
                parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
                if stride <= last:
                    found: Any = torch.autograd.grad(values.sum(), parameters, retain_graph=True, allow_unused=True)
                    for parameter, gradient in zip(parameters, found, strict=True):
                        if gradient is not None:
                            parameter.requires_grad_(False)
        self.train(training)


class TimmPyramid(BackboneWithFPN):
    """The feature pyramid over such a network; torchvision's own takes named children, which timm's are not."""

    def __init__(self, body: TimmBody, first_stage: int, channels: int, extra: ExtraFPNBlock) -> None:
        nn.Module.__init__(self)
        self.body = body
        self.first_stage = first_stage
        self.fpn = FeaturePyramidNetwork(body.channels[first_stage - 1 :], channels, extra)
        self.out_channels = channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels by name, as torchvision's does."""
        maps = self.body(x)[self.first_stage - 1 :]
        return self.fpn(OrderedDict((str(level), values) for level, values in enumerate(maps)))
