"""Bare torchvision detectors from plain arguments.

This file imports torch, torchvision and safetensors only: kdet writes it beside a student's weights, so that the
student loads where kdet is not installed: `model, class_names = load_student("student.safetensors")`.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from math import gcd
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model, mobilenetv3, resnet
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

Norm = Callable[[int], nn.Module]

RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)
NARROW_RESNETS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks per stage of the networks that take a `width`."""
MOBILENETS = ("mobilenet_v3_large", "mobilenet_v3_small")
BACKBONES = ("resnet10", *RESNETS, *MOBILENETS)
RATIOS = (0.5, 1.0, 2.0)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups where each keeps at least four channels, fewer groups in a narrow layer."""
    return nn.GroupNorm(gcd(channels, min(32, max(1, channels // 4))), channels)


NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "group": group_norm}


def _narrow_resnet(blocks: tuple[int, ...], width: float, norm: Norm) -> nn.Sequential:
    """torchvision's ResNet of basic blocks (its key names too), each layer `width` times as wide."""
    channels = [max(8, int(64 * 2**stage * width)) for stage in range(4)]
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["conv1"] = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
    stages["bn1"] = norm(channels[0])
    stages["relu"] = nn.ReLU(inplace=True)
    stages["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    before = channels[0]
    for stage, (count, planes) in enumerate(zip(blocks, channels, strict=True)):
        layer: list[nn.Module] = []
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = None
            if stride != 1 or before != planes:
                shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False), norm(planes))
            layer.append(BasicBlock(before, planes, stride, shortcut, norm_layer=norm))
            before = planes
        stages[f"layer{stage + 1}"] = nn.Sequential(*layer)
    body = nn.Sequential(stages)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body


def _body(backbone: str, width: float, norm: Norm) -> nn.Module:
    if backbone in NARROW_RESNETS and (width != 1 or backbone == "resnet10"):
        return _narrow_resnet(NARROW_RESNETS[backbone], width, norm)
    if backbone in MOBILENETS:
        build = getattr(mobilenetv3, backbone)
        return build(weights=None, norm_layer=norm, width_mult=width).features
    if width != 1:
        raise ValueError(f"expected width 1 for {backbone}, got {width}; {', '.join(NARROW_RESNETS)} take a width")
    return getattr(resnet, backbone)(weights=None, norm_layer=norm)


def _freeze_resnet(body: nn.Module, trainable_layers: int) -> None:
    """Freeze all but the last `trainable_layers` of conv1+bn1, layer1 … layer4, as torchvision does."""
    trained = ["layer4", "layer3", "layer2", "layer1", "conv1"][:trainable_layers]
    if trainable_layers == 5:
        trained.append("bn1")
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in trained)


def _mobilenet_stages(body: nn.Module) -> list[int]:
    """Index of the block that gives each stage (strides 4, 8, 16, and the last one at 32)."""
    blocks = list(body.children())
    starts = [i for i, block in enumerate(blocks) if getattr(block, "_is_cn", False)]
    return [*starts[:3], len(blocks) - 1]


def _fpn(body: nn.Module, backbone: str, first_stage: int, channels: int, extra: nn.Module) -> BackboneWithFPN:
    """Feature pyramid over stages `first_stage`…4 (strides 4, 8, 16, 32)."""
    if backbone in MOBILENETS:
        stages = _mobilenet_stages(body)[first_stage - 1 :]
        blocks = list(body.children())
        layers = {str(index): str(level) for level, index in enumerate(stages)}
        widths = [int(blocks[index].out_channels) for index in stages]  # pyright: ignore[reportArgumentType]
    else:
        layers = {f"layer{stage}": str(level) for level, stage in enumerate(range(first_stage, 5))}
        widths = [_width_out(getattr(body, name)) for name in layers]
    return BackboneWithFPN(body, layers, widths, channels, extra_blocks=extra)  # pyright: ignore[reportArgumentType]


def _width_out(stage: nn.Module) -> int:
    """Channels that a ResNet stage puts out: those of its last convolution."""
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d)][-1].out_channels


def _anchors(bases: tuple[int, ...], scale: float, octaves: int, ratios: tuple[float, ...]) -> AnchorGenerator:
    """One size tuple per level: `octaves` anchors between a base and its double."""
    sizes = tuple(tuple(int(base * scale * 2 ** (k / octaves)) for k in range(octaves)) for base in bases)
    return AnchorGenerator(sizes, (ratios,) * len(bases))  # pyright: ignore[reportArgumentType]


def _retinanet(
    pyramid: Callable[[int, nn.Module], BackboneWithFPN], channels: int, num_classes: int, **rest: Any
) -> nn.Module:
    backbone = pyramid(2, LastLevelP6P7(channels, channels))
    anchors = _anchors((32, 64, 128, 256, 512), rest.pop("anchor_scale"), 3, RATIOS)
    norm = group_norm if rest.pop("head_norm") else None
    head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], num_classes, norm_layer=norm)
    return RetinaNet(backbone, num_classes, anchor_generator=anchors, head=head, detections_per_img=100, **rest)


def _fcos(
    pyramid: Callable[[int, nn.Module], BackboneWithFPN], channels: int, num_classes: int, **rest: Any
) -> nn.Module:
    backbone = pyramid(2, LastLevelP6P7(channels, channels))
    anchors = _anchors((8, 16, 32, 64, 128), rest.pop("anchor_scale"), 1, (1.0,))
    rest.pop("head_norm")  # torchvision's FCOS head always has GroupNorm
    return FCOS(backbone, num_classes, anchor_generator=anchors, **rest)


def _faster_rcnn(
    pyramid: Callable[[int, nn.Module], BackboneWithFPN], channels: int, num_classes: int, **rest: Any
) -> nn.Module:
    backbone = pyramid(1, LastLevelMaxPool())
    anchors = _anchors((32, 64, 128, 256, 512), rest.pop("anchor_scale"), 1, RATIOS)
    rest.pop("head_norm")
    hidden = 4 * channels  # torchvision's 1024 at 256 channels
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        box_head=TwoMLPHead(channels * 7 * 7, hidden),
        box_predictor=FastRCNNPredictor(hidden, num_classes),
        **rest,
    )


FPN_DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "retinanet": _retinanet,
    "fcos": _fcos,
    "faster_rcnn": _faster_rcnn,
}


def _ssdlite(num_classes: int, width: float, norm: Norm, trainable_layers: int, **rest: Any) -> nn.Module:
    """torchvision's SSDlite, with its own BatchNorm constants; its backbone is trained whole or not at all."""
    if trainable_layers not in (0, 5):
        raise ValueError(f"expected trainable_layers 0 or 5 for ssdlite, got {trainable_layers}")
    model = ssdlite320_mobilenet_v3_large(
        num_classes=num_classes,
        weights=None,
        weights_backbone=None,
        norm_layer=partial(nn.BatchNorm2d, eps=0.001, momentum=0.03) if norm is nn.BatchNorm2d else norm,
        detections_per_img=100,
        **({"width_mult": width} if width != 1 else {}),
        **rest,
    )
    if trainable_layers == 0:
        model.backbone.features.requires_grad_(False)
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
    image_size: int | tuple[int, int] = (800, 1333),
    body_state: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Build a detector of torchvision's own classes.

    Args:
        detector: retinanet, fcos, faster_rcnn or ssdlite.
        num_classes: columns of the class layer, background (column 0) included.
        backbone: one of BACKBONES; ssdlite has mobilenet_v3_large alone.
        width: channel multiplier of resnet10/18/34 and MobileNetV3.
        fpn_channels: channels of every neck output; FCOS needs a multiple of 32.
        norm: normalisation of the backbone: batch, frozen (a fixed affine map) or group.
        head_norm: GroupNorm in RetinaNet's head; without it a narrow head is almost dead at the start.
        trainable_layers: 0 (backbone frozen) … 5 (all trained), counted from the deep end.
        anchor_scale: multiplies the anchors (FCOS: the size ranges of the levels), 1 = torchvision's 32…512 px.
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
        return _ssdlite(num_classes, width, NORMS[norm], trainable_layers)
    body = _body(backbone, width, NORMS[norm])
    if body_state is not None:
        _load_body(body, body_state)
    if backbone in MOBILENETS:
        for block in list(body.children())[: (5 - trainable_layers) * len(list(body.children())) // 5]:
            block.requires_grad_(False)
    else:
        _freeze_resnet(body, trainable_layers)

    def pyramid(first_stage: int, extra: nn.Module) -> BackboneWithFPN:
        return _fpn(body, backbone, first_stage, fpn_channels, extra)

    build = FPN_DETECTORS[detector]
    options = {"head_norm": head_norm, "anchor_scale": anchor_scale, "min_size": short, "max_size": limit}
    return build(pyramid, fpn_channels, num_classes, **options)


def load_student(path: str) -> tuple[nn.Module, list[str]]:
    """A detector from a weights file that kdet wrote, in evaluation mode, and its class names by label."""
    with safe_open(path, framework="pt") as handle:
        about = json.loads(handle.metadata()["kdet"])
    model = build_any(about["build"])
    model.load_state_dict(load_file(path))
    return model.eval(), about["class_names"]


def build_any(arguments: Mapping[str, Any]) -> nn.Module:
    """What a weights file names: a detector of `build_model`, or with `library` torchvision's own constructor."""
    plain = {name: value for name, value in arguments.items() if name != "library"}
    library = arguments.get("library")
    if not library:
        return build_model(**plain)
    size = plain["image_size"]
    short, limit = (size, size) if isinstance(size, int) else size
    sizes = {} if "ssd" in library else {"min_size": short, "max_size": limit}
    model: Any = get_model(library, weights=None, weights_backbone=None, num_classes=plain["num_classes"], **sizes)
    if "resnet" in library:
        _freeze_resnet(model.backbone.body, plain["trainable_layers"])
    return _freeze_norms(model, eps=0.0 if library in ZERO_EPS else 1e-5) if plain["norm"] == "frozen" else model


ZERO_EPS = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")
"""torchvision runs these with eps 0 in their frozen norms, as their weights were trained."""


def _freeze_norms(module: nn.Module, eps: float) -> nn.Module:
    """Replace every BatchNorm2d by torchvision's frozen one (same key names)."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            _freeze_norms(child, eps)
    return module


def _load_body(body: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a classification network's weights into a backbone; only its classifier may be left over."""
    own = body.state_dict()
    stripped = {key.removeprefix("features."): value for key, value in state.items()}
    missing = [key for key in own if key not in stripped and not key.startswith("fc.") and "num_batches" not in key]
    if missing:
        raise ValueError(f"expected backbone weights with {missing[0]} ({len(missing)} keys are missing)")
    taken = {key: value for key, value in stripped.items() if key in own and not key.startswith("fc.")}
    for key, value in taken.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"expected backbone weights with {key} of shape {tuple(own[key].shape)}, got {tuple(value.shape)}"
            )
    body.load_state_dict(taken, strict=False)
