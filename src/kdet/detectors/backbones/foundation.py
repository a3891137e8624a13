"""Pretrained backbones of timm and transformers as teachers of features, each at its own strides.

Legend: N images, C channels, H W size of the input, p pixels per cell.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from kdet.detectors.backbones.hf_backbones import transformers_backbone
from kdet.detectors.backbones.timm_backbones import timm_backbone
from kdet.detectors.batching import make_batch, normalised
from kdet.detectors.weights import require_finite
from kdet.errors import InputError
from kdet.types import Batch, Canvas, Detections, Level, Need, Observation, Target

Library = Literal["timm", "transformers"]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What either library gives, in one form."""

    model: nn.Module
    maps: Callable[[nn.Module, Tensor], Sequence[Tensor]]
    """Model and images whose sides are multiples of every stride → one N×C×H/p×W/p per level, patch tokens alone."""
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: Sequence[float]
    std: Sequence[float]


LIBRARIES: dict[Library, Callable[[str, str | None, Mapping[str, Any]], Mapping[str, Any]]] = {
    "timm": timm_backbone,
    "transformers": transformers_backbone,
}


class FoundationDetector:
    """A backbone behind the Detector protocol: features and nothing else.

    Inputs are padded with zeros at the right and bottom, after normalisation, to a multiple of the strides. The last
    cells of a level may partly be such padding (96 pixels in patches of 14 are 7 cells over 98); cells of nothing else
    are cut off.
    """

    build_arguments: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    provides = frozenset({Need.FEATURES})
    predicts = False
    canvas: Canvas = "pad"
    image_size: int | tuple[int, int] = (800, 1333)

    def __init__(self, name: str, backbone: Backbone) -> None:
        self.family = name
        self.architecture: tuple[str, str] = ("foundation", name)
        self.model = backbone.model
        self.levels = tuple(
            Level(f"stride {stride}", channels, stride)
            for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
        )
        self._maps = backbone.maps
        transform = GeneralizedRCNNTransform(800, 1333, list(backbone.mean), list(backbone.std))
        self._library = SimpleNamespace(transform=transform)
        self._multiple = math.lcm(*backbone.strides)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Pad; images keep their size."""
        return make_batch(self, images, targets, keep_size=True)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """The levels of one forward pass."""
        images = normalised(self._library, batch).tensors
        height, width = int(images.shape[2]), int(images.shape[3])
        padded = F.pad(images, (0, -width % self._multiple, 0, -height % self._multiple))
        features = list(self._maps(self.model, padded))
        cut = [
            feature[..., : math.ceil(height / level.stride), : math.ceil(width / level.stride)]
            for feature, level in zip(features, self.levels, strict=True)
        ]
        return Observation(levels=self.levels, input_size_hw=(height, width), features=cut)

    def predict(self, batch: Batch) -> list[Detections]:
        """Refused: a backbone detects nothing."""
        raise InputError(f"{self.family} gives features alone; it detects nothing, and has no AP")

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Refused: a backbone has no head."""
        raise InputError(f"{self.family} gives features alone; it has no head")

    def native_state(self) -> dict[str, Tensor]:
        """The library's own state_dict."""
        return self.model.state_dict()


def foundation(
    name: str, *, library: Library = "timm", weights: str | None = None, options: Mapping[str, Any] | None = None
) -> FoundationDetector:
    """Return a ViT or ConvNeXt backbone as a teacher of features; it knows no classes and detects nothing.

    Args:
        name: timm's name, such as vit_small_patch14_dinov2 or convnext_tiny; for transformers a model on the hub, a
            folder, or with random weights or a file a kind such as dinov2.
        library: timm or transformers.
        weights: None (random), "pretrained" (the library's own, from its cache or the hub), or a file.
        options: of the library's constructor or configuration, such as depth; `out_indices` names the levels, else
            it is the last one of a ViT, and those of strides 8, 16 and 32 of other backbones.

    Raises:
        InputError: the library is not installed, has no such model, or its weights cannot be had.
    """
    if library not in LIBRARIES:
        raise InputError(f"unknown library {library!r}; known: {', '.join(LIBRARIES)}")
    made = FoundationDetector(name, Backbone(**LIBRARIES[library](name, weights, options or {})))
    require_finite(made.model, name if weights in (None, "pretrained") else str(weights))
    return made
