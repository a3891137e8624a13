"""Optimizer and learning rate, as functions of the recipe's numbers."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from kdet.train.recipe import TrainRecipe


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainRecipe) -> torch.optim.Optimizer:
    """SGD with momentum 0.9, or AdamW, over what requires a gradient."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)


def warmup_steps(settings: TrainRecipe, total_steps: int) -> int:
    """Steps of the linear rise."""
    return min(settings.warmup_steps, total_steps // 10)


def learning_rate(settings: TrainRecipe, step: int, total_steps: int) -> float:
    """Learning rate of a step; without state, so that resume needs none."""
    warmup = warmup_steps(settings, total_steps)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    progress = step / max(1, total_steps)
    if settings.lr_schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
    if settings.lr_schedule == "step":
        return settings.lr * 0.1 ** ((progress >= 8 / 12) + (progress >= 11 / 12))
    return settings.lr
