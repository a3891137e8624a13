"""Optimizer and learning rate, as functions of the recipe's numbers."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdet.detectors import backbone_parameters, uses_nesterov, usual_backbone_lr
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.ops.modes import frozen_norms
from kdet.train.recipe.schema import Recipe, TrainRecipe

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # pyright: ignore[reportPrivateUsage]
_TOKENS = ("cls_token", "mask_token", "register_tokens", "pos_embed", "position_embeddings")
"""What a transformer backbone learns beside its weights; queries and levels of a DETR decay, as in its own code."""
_RAMP = 3 / 4

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_optimizer(distiller: Distiller, recipe: Recipe) -> torch.optim.Optimizer:
    """Build SGD with momentum 0.9 or AdamW over the groups of `parameter_groups`.

    Raises:
        InputError: `backbone_lr` for a student whose backbone kdet does not know.
    """
    settings = recipe.train
    groups = parameter_groups(distiller, settings, backbone_lr(distiller, recipe))
    if settings.optimizer == "sgd":
        nesterov = uses_nesterov(distiller.student) if settings.nesterov is None else settings.nesterov
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr)


def backbone_lr(distiller: Distiller, recipe: Recipe) -> float:
    """Return the factor on the backbone's learning rate: the recipe's, else the usual one of a pretrained family.

    Raises:
        InputError: a factor for a student whose backbone kdet does not know.
    """
    given, student = recipe.train.backbone_lr, distiller.student
    if given is None:
        return usual_backbone_lr(student) if recipe.student.has_pretrained_backbone else 1.0
    if not backbone_parameters(student):
        raise InputError(f"train.backbone_lr: kdet does not know which part of a {student.family} is its backbone")
    return given


def parameter_groups(distiller: Distiller, settings: TrainRecipe, factor: float) -> list[dict[str, Any]]:
    """Return what is trained, by part and weight decay, each tensor in one group.

    Norms, biases and whatever else has one number per channel (FCOS's and GFL's scales, layer scales) do not decay,
    as in timm's `param_group_weight_decay`; torchvision's, transformers' and ultralytics' rules name norms and biases
    alone. Tokens and position embeddings of transformer backbones do not either, as in ViT's and DINOv2's code.

    Args:
        distiller: with or without terms.
        settings: learning rate and weight decays.
        factor: on the learning rate of the student's backbone.

    Returns:
        The optimizer's groups; `factor` is by what a schedule's learning rate is multiplied in each.
    """
    backbone = {id(parameter) for parameter in backbone_parameters(distiller.student)}
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for path, module, name, parameter in _trained(distiller):
        part = "backbone" if id(parameter) in backbone else "neck and head"
        if path.startswith("criterion."):
            part = "adapters"
        decay = settings.adapter_weight_decay if part == "adapters" else settings.weight_decay
        decay = decay if _decays(module, name, parameter) else 0.0
        own = factor if part == "backbone" else 1.0
        group = {"params": [], "name": part, "lr": settings.lr * own, "factor": own, "weight_decay": decay}
        groups.setdefault((part, decay), group)["params"].append(parameter)
    return list(groups.values())


def describe_groups(optimizer: torch.optim.Optimizer, model: nn.Module) -> str:
    """Return the groups in one line, and how many norms of the student's model are frozen."""
    groups = [
        f"{group['name']} {len(group['params'])} tensors, lr ×{group['factor']:g}, decay {group['weight_decay']:g}"
        for group in optimizer.param_groups
    ]
    kept = len(list(frozen_norms(model)))
    more = [f"{kept} norms in frozen layers keep their statistics"] * bool(kept)
    more += ["Nesterov's momentum"] * bool(optimizer.defaults.get("nesterov"))
    return "optimizer: " + "; ".join([*groups, *more])


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set a step's learning rate, times each group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


def _trained(distiller: Distiller) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Path and module of each trained tensor, its name there and itself; a tensor with two names comes once."""
    seen: set[int] = set()
    for path, module in distiller.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield path, module, name, parameter


def _decays(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1 and not isinstance(module, _NORMS) and "bias" not in name and name not in _TOKENS


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return the rule of an exponential moving average for `torch.optim.swa_utils.AveragedModel`, whose decay rises.

    After `n` updates the old average has weight `min(decay, 1 − (1 + n)^(−3/4))`: the warmup of timm's `ModelEmaV3`
    (code and powers by Katherine Crowson), with her power for runs of less than a million steps. The average then spans
    about the last `n^(3/4)` updates, so that runs of any length forget their start: its share is 1e-6 after 288
    updates, where a fixed 0.999 leaves it 0.75 and YOLO's `1 − exp(−n/2000)` averages next to nothing. 0.999 is reached
    after 10 000 updates, 0.9998 after 85 000. A function of the count alone, which `AveragedModel` saves, so that
    resume is exact.

    What is no floating point number, such as a count of batches, is copied.
    """

    @torch.no_grad()
    def update(averages: Tensors, current: Tensors, count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            get_ema_multi_avg_fn(ema_decay(decay, int(count)))(averages, current, count)
        else:
            for average, own in zip(averages, current, strict=True):
                average.copy_(own)

    return update


def ema_decay(decay: float, updates: int) -> float:
    """Return the weight of the old average in the next update."""
    return min(decay, 1 - (1 + updates) ** -_RAMP)


def steps_of(settings: TrainRecipe, batches: int) -> int:
    """Return the number of optimizer steps of a whole run whose epochs have so many batches."""
    steps = math.ceil(batches / settings.accumulate) * settings.epochs
    return min(steps, settings.max_steps or steps)


def warmup_steps(settings: TrainRecipe, total_steps: int) -> int:
    """Return the number of steps of the linear rise."""
    return min(settings.warmup_steps, total_steps // 10)


def learning_rate(settings: TrainRecipe, step: int, total_steps: int) -> float:
    """Return the learning rate of a step; without state, so that resume needs none."""
    warmup = warmup_steps(settings, total_steps)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    progress = step / max(1, total_steps)
    if settings.lr_schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
    if settings.lr_schedule == "step":
        return settings.lr * 0.1 ** ((progress >= 8 / 12) + (progress >= 11 / 12))
    return settings.lr
