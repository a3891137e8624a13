"""Backbones and feature pyramids: torchvision's, and narrow ones for small devices, under torchvision's key names."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import gcd
from typing import Any, Literal, Self

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .library_bodies import LIBRARY_BACKBONES, TimmBody, TimmPyramid, library_body, stage_ends

Norm = Callable[[int], nn.Module]

RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)
NARROW_RESNETS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks per stage of the networks that take a `width`."""
MOBILENETS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
BACKBONES = ("resnet10", *RESNETS, *MOBILENETS, *LIBRARY_BACKBONES)
"""Besides them `timm/` and a name."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Build a GroupNorm with 32 groups where each keeps at least four channels, fewer groups in a narrow layer."""
    return nn.GroupNorm(gcd(channels, min(32, max(1, channels // 4))), channels)


class _Fixed(nn.Module):
    """A norm that stays in evaluation mode, whatever the model around it is told."""

    def train(self, mode: bool = True) -> Self:
        """Ignore the mode."""
        return super().train(False)


class EvalBatchNorm2d(_Fixed, nn.BatchNorm2d):
    """Batch norm with statistics that stay, while its scale and shift are trained: mmdetection's `norm_eval`."""


NORMS: dict[str, Norm] = {
    "batch": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
    "group": group_norm,
    "eval": EvalBatchNorm2d,
}


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


def make_body(
    backbone: str, width: float, norm: Norm, *, state: Mapping[str, Tensor] | None, trainable_layers: int
) -> nn.Module:
    """Build a backbone without its classifier; arguments as of `build_model`."""
    body = _body(backbone, width, norm)
    if state is not None:
        _load_body(body, state)
    freeze_stages(body, trainable_layers)
    return body


def _body(backbone: str, width: float, norm: Norm) -> nn.Module:
    if backbone in NARROW_RESNETS and (width != 1 or backbone == "resnet10"):
        return _narrow_resnet(NARROW_RESNETS[backbone], width, norm)
    if backbone in MOBILENETS:
        whole: Any = get_model(backbone, weights=None, norm_layer=norm, width_mult=width)
        return whole.features
    if width != 1:
        take_one = ", ".join((*NARROW_RESNETS, *MOBILENETS))
        raise ValueError(f"expected width 1 for {backbone}, got {width}; {take_one} take a width")
    if backbone in RESNETS:
        return get_model(backbone, weights=None, norm_layer=norm)
    if norm is group_norm:
        raise ValueError(f"expected the library's own norms for {backbone}: norm batch, frozen or eval, got group")
    body = library_body(backbone)
    return body if norm is nn.BatchNorm2d else with_fixed_statistics(body, trained=norm is EvalBatchNorm2d)


def freeze_stages(body: nn.Module, trainable_layers: int) -> None:
    """Fix all but the last `trainable_layers` of five stages, as torchvision counts them, statistics of norms too.

    torchvision leaves the norms of such stages in training mode where they are no frozen ones; their statistics, and
    with them the stage, would go on changing.
    """
    if trainable_layers == 5:
        return
    if isinstance(body, TimmBody):
        body.freeze(trainable_layers)
        return
    names = [name for name, _ in body.named_children()]
    if "layer1" in names:
        trained = ["layer4", "layer3", "layer2", "layer1", "conv1"][:trainable_layers]
        fixed = [name for name in names if name not in trained]
    elif strided := _strided(body):
        starts = [0, *strided, len(names) - 1, len(names)]
        fixed = names[: starts[-1 - trainable_layers]]
    else:
        fixed = names[: stage_ends(body)[4 - trainable_layers][0] + 1]
    for name in fixed:
        setattr(body, name, freeze_norms(getattr(body, name).requires_grad_(False)))


def _strided(body: nn.Module) -> list[int]:
    """Index of the blocks of a MobileNet at which its next stage begins, after the first one."""
    return [i for i, block in enumerate(body.children()) if getattr(block, "_is_cn", False)]


def _mobilenet_stages(body: nn.Module) -> list[int]:
    """Index of the block that gives each stage (strides 4, 8, 16, and the last one at 32)."""
    return [*_strided(body)[:3], len(list(body.children())) - 1]


def feature_pyramid(
    body: nn.Module, backbone: str, first_stage: int, channels: int, extra: nn.Module
) -> BackboneWithFPN:
    """Build a feature pyramid over stages `first_stage`…4 (strides 4, 8, 16, 32)."""
    if isinstance(body, TimmBody):
        return TimmPyramid(body, first_stage, channels, extra)  # pyright: ignore[reportArgumentType]
    stages = _stages(body, backbone)[first_stage - 1 :]
    layers = {name: str(level) for level, (name, _) in enumerate(stages)}
    widths = [width for _, width in stages]
    return BackboneWithFPN(body, layers, widths, channels, extra_blocks=extra)  # pyright: ignore[reportArgumentType]


def _stages(body: nn.Module, backbone: str) -> list[tuple[str, int]]:
    """Name of the child that gives each of the four stages, and its channels."""
    if isinstance(body, TimmBody):
        return [("", width) for width in body.channels]
    if backbone in MOBILENETS:
        blocks: list[Any] = list(body.children())
        return [(str(index), int(blocks[index].out_channels)) for index in _mobilenet_stages(body)]
    if backbone in BACKBONES[: 1 + len(RESNETS)]:
        return [(f"layer{stage}", _width_out(getattr(body, f"layer{stage}"))) for stage in range(1, 5)]
    names = [name for name, _ in body.named_children()]
    return [(names[index], width) for index, width in stage_ends(body)[1:]]


def _width_out(stage: nn.Module) -> int:
    """Channels that a ResNet stage puts out: those of its last convolution."""
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d)][-1].out_channels


def p6_p7(body: nn.Module, backbone: str, channels: int, source: Literal["p5", "c5"]) -> LastLevelP6P7:
    """Build the two coarsest levels, of strides 64 and 128, from the pyramid's P5 or the backbone's last stage, C5."""
    if source == "p5":
        return LastLevelP6P7(channels, channels)
    extra = LastLevelP6P7(_stages(body, backbone)[-1][1], channels)
    extra.use_P5 = False  # torchvision tells the two apart by their widths, which may agree
    return extra


def with_fixed_statistics(body: nn.Module, *, trained: bool) -> nn.Module:
    """Fix the statistics of all batch norms in place, of those too that have an activation inside, as timm's do.

    Args:
        body: its other norms, such as ConvNeXt's, have no statistics and stay.
        trained: whether scale and shift are trained.
    """
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = type(f"Fixed{type(module).__name__}", (_Fixed, type(module)), {})
            module.train(False)
            module.requires_grad_(trained)
    return body


def freeze_norms(module: nn.Module, eps: float | None = None) -> nn.Module:
    """Replace every BatchNorm2d by torchvision's frozen one (same key names, same values).

    Args:
        module: changed in place, but for a norm itself, in whose place its successor is returned.
        eps: of the frozen norms; None = each its own.
    """
    if isinstance(module, nn.BatchNorm2d):
        successor = FrozenBatchNorm2d(module.num_features, eps=module.eps if eps is None else eps)
        successor.load_state_dict(module.state_dict())
        return successor
    for name, child in module.named_children():
        setattr(module, name, freeze_norms(child, eps))
    return module


def _load_body(body: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a classification network's weights into a backbone; only its classifier may be left over."""
    own = body.state_dict()
    before = "net." if isinstance(body, TimmBody) else ""
    stripped = {before + key.removeprefix("features.").removeprefix("trunk_output."): v for key, v in state.items()}
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
