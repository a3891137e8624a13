"""Detectors from plain arguments, one function each."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from .atss import ATSS
from .backbones import NORMS, Norm, feature_pyramid, freeze_norms, group_norm, make_body, p6_p7
from .cascade import CascadeRCNN
from .gfl import GFL
from .library_bodies import TimmBody

RATIOS = (0.5, 1.0, 2.0)
_STRIDES = (8, 16, 32, 64, 128)
_EIGHT_STRIDES = tuple(8 * stride for stride in _STRIDES)
"""Sides of the anchors of ATSS and GFL."""


def _anchors(bases: tuple[int, ...], scale: float, octaves: int, ratios: tuple[float, ...]) -> AnchorGenerator:
    """One size tuple per level: `octaves` anchors between a base and its double."""
    sizes = tuple(tuple(int(base * scale * 2 ** (k / octaves)) for k in range(octaves)) for base in bases)
    return AnchorGenerator(sizes, (ratios,) * len(bases))  # pyright: ignore[reportArgumentType]


def _retinanet(pyramid: Callable[..., BackboneWithFPN], channels: int, num_classes: int, **rest: Any) -> nn.Module:
    backbone = pyramid(2)
    anchors = _anchors((32, 64, 128, 256, 512), rest.pop("anchor_scale"), 3, RATIOS)
    norm = group_norm if rest.pop("head_norm") else None
    head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], num_classes, norm_layer=norm)
    return RetinaNet(backbone, num_classes, anchor_generator=anchors, head=head, detections_per_img=100, **rest)


def _fcos(pyramid: Callable[..., BackboneWithFPN], channels: int, num_classes: int, **rest: Any) -> nn.Module:
    backbone = pyramid(2)
    anchors = _anchors((8, 16, 32, 64, 128), rest.pop("anchor_scale"), 1, (1.0,))
    rest.pop("head_norm")  # torchvision's FCOS head always has GroupNorm
    return FCOS(backbone, num_classes, anchor_generator=anchors, **rest)


def _two_stage(pyramid: Callable[..., BackboneWithFPN], rest: dict[str, Any]) -> tuple[BackboneWithFPN, dict[str, Any]]:
    """Backbone and the options that both two-stage detectors share."""
    anchors = _anchors((32, 64, 128, 256, 512), rest.pop("anchor_scale"), 1, RATIOS)
    rest.pop("head_norm")
    return pyramid(1, LastLevelMaxPool()), {"rpn_anchor_generator": anchors, **rest}


def _faster_rcnn(pyramid: Callable[..., BackboneWithFPN], channels: int, num_classes: int, **rest: Any) -> nn.Module:
    backbone, options = _two_stage(pyramid, rest)
    hidden = 4 * channels  # torchvision's 1024 at 256 channels
    head, predictor = TwoMLPHead(channels * 7 * 7, hidden), FastRCNNPredictor(hidden, num_classes)
    return FasterRCNN(backbone, box_head=head, box_predictor=predictor, **options)


def _cascade_rcnn(pyramid: Callable[..., BackboneWithFPN], channels: int, num_classes: int, **rest: Any) -> nn.Module:
    backbone, options = _two_stage(pyramid, rest)
    return CascadeRCNN(backbone, num_classes, hidden=4 * channels, **options)


def _atss(pyramid: Callable[..., BackboneWithFPN], channels: int, num_classes: int, **rest: Any) -> nn.Module:
    rest.pop("head_norm")  # always GroupNorm, as in the paper's code
    backbone = pyramid(2)
    anchors = _anchors(_EIGHT_STRIDES, rest.pop("anchor_scale"), 1, (1.0,))
    return ATSS(backbone, num_classes, anchor_generator=anchors, **rest)


def _gfl(pyramid: Callable[..., BackboneWithFPN], channels: int, num_classes: int, **rest: Any) -> nn.Module:
    rest.pop("head_norm")  # always GroupNorm, as in the paper's code
    backbone = pyramid(2)
    anchors = _anchors(_EIGHT_STRIDES, rest.pop("anchor_scale"), 1, (1.0,))
    return GFL(backbone, num_classes, anchor_generator=anchors, strides=_STRIDES, **rest)


FPN_DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "retinanet": _retinanet,
    "fcos": _fcos,
    "faster_rcnn": _faster_rcnn,
    "atss": _atss,
    "gfl": _gfl,
    "cascade_rcnn": _cascade_rcnn,
}


def _ssdlite(
    num_classes: int, width: float, norm: Norm, trainable_layers: int, side: int | None, **rest: Any
) -> nn.Module:
    """torchvision's SSDlite, with its own BatchNorm constants; its backbone is trained whole or not at all.

    It squeezes images into a square of this side; None = 320.
    """
    if trainable_layers not in (0, 5):
        raise ValueError(f"expected trainable_layers 0 or 5 for ssdlite, got {trainable_layers}")
    model: Any = ssdlite320_mobilenet_v3_large(
        num_classes=num_classes,
        weights=None,
        weights_backbone=None,
        norm_layer=partial(nn.BatchNorm2d, eps=0.001, momentum=0.03) if norm is nn.BatchNorm2d else norm,
        detections_per_img=100,
        **({"width_mult": width} if width != 1 else {}),
        **rest,
    )
    if side is not None:
        model.transform.fixed_size = (side, side)
    if trainable_layers == 0:
        freeze_norms(model.backbone.features.requires_grad_(False))
    return model


def build_model(
    *,
    detector: str,
    num_classes: int,
    backbone: str = "resnet50",
    width: float = 1.0,
    fpn_channels: int = 256,
    norm: str = "batch",
    head_norm: bool = False,
    trainable_layers: int = 5,
    anchor_scale: float = 1.0,
    p6: Literal["p5", "c5"] = "p5",
    image_size: int | tuple[int, int] = (800, 1333),
    body_state: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Build a detector: torchvision's own class, or one of this folder.

    Args:
        detector: retinanet, fcos, faster_rcnn, cascade_rcnn, ssdlite, atss or gfl.
        num_classes: columns of the class layer, background (column 0) included.
        backbone: one of BACKBONES, or `timm/` and the name of a convolutional network of timm; ssdlite has
            mobilenet_v3_large alone.
        width: channel multiplier of resnet10/18/34 and the MobileNets.
        fpn_channels: channels of every neck output; FCOS needs a multiple of 32.
        norm: normalisation of the backbone: batch, frozen (a fixed affine map), eval (fixed statistics, scale and shift
            trained) or group.
        head_norm: GroupNorm in RetinaNet's head; without it a narrow head is almost dead at the start. FCOS, ATSS and
            GFL always have it.
        trainable_layers: 0 (backbone frozen) … 5 (all trained), counted from the deep end; the norms of frozen stages
            are frozen too.
        anchor_scale: multiplies the anchors (FCOS: the size ranges of the levels), 1 = torchvision's 32…512 px, in
            ATSS and GFL 64…1024 px.
        p6: of what the levels of strides 64 and 128 of RetinaNet, FCOS, ATSS and GFL are made.
        image_size: long side, or short side and its limit, in pixels.
        body_state: weights of the backbone under its library's key names; its classifier is left out.

    Raises:
        ValueError: the arguments do not go together.
    """
    short, limit = (image_size, image_size) if isinstance(image_size, int) else image_size
    if detector == "ssdlite":
        if backbone != "mobilenet_v3_large":
            raise ValueError(f"expected backbone mobilenet_v3_large for ssdlite, got {backbone}")
        if body_state is not None:
            raise ValueError("expected no backbone_weights for ssdlite: its extractor regroups the blocks; use weights")
        side = image_size if isinstance(image_size, int) else None
        return _ssdlite(num_classes, width, NORMS[norm], trainable_layers, side)
    body = make_body(backbone, width, NORMS[norm], state=body_state, trainable_layers=trainable_layers)

    def pyramid(first_stage: int, extra: nn.Module | None = None) -> BackboneWithFPN:
        """Build a pyramid with the two further levels of a dense detector where no other is given."""
        extra = p6_p7(body, backbone, fpn_channels, p6) if extra is None else extra
        return feature_pyramid(body, backbone, first_stage, fpn_channels, extra)

    build = FPN_DETECTORS[detector]
    options = {"head_norm": head_norm, "anchor_scale": anchor_scale, "min_size": short, "max_size": limit}
    model: Any = build(pyramid, fpn_channels, num_classes, **options)
    if isinstance(body, TimmBody):
        model.transform.image_mean, model.transform.image_std = body.mean, body.std
    return model
