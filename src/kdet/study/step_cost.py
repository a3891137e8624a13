"""What a step of a recipe costs: seconds with and without the teacher, and where the memory goes. Measured."""

import copy
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kdet.distill import Distiller
from kdet.train.engine import Engine
from kdet.train.memory import Memory, kept_for_backward, memory_of
from kdet.types import Batch, Pull

_STEPS = 5
_ENOUGH_SECONDS = 10.0
"""Of timed steps; where one takes longer, one must do."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One step at the recipe's batch size on this machine."""

    seconds: float
    """With the teacher, or of a student alone if the recipe has none. Median; forward, backward, optimizer."""
    alone_seconds: float
    """The same without teacher and terms."""
    memory: Memory
    parts: dict[str, float]
    """The loss of the first batch, weighted, schedules set aside."""
    pulls: dict[str, Pull]
    """Of each term at the student's neck, against the task, before the first step."""


def measure(
    distiller: Distiller, optimizer: Optimizer, batches: Sequence[Batch], engine: Engine, *, average: bool
) -> StepCost:
    """Take a few real steps; afterwards weights, statistics, optimizer and random numbers are as before.

    Args:
        distiller: on the engine's device, in training mode.
        optimizer: over its parameters; its learning rate is 0 meanwhile, so that no step can break the weights.
        batches: at least one, on the engine's device.
        engine: for device and precision.
        average: whether the run keeps a moving average of the student.
    """
    alone = Distiller(distiller.student).train()
    with _as_before(distiller, optimizer):
        with engine.autocast():
            report = distiller(batches[0], measure=True)
        parts = {name: float(value.detach()) for name, value in report.parts.items()}
        activations = kept_for_backward(distiller, batches[0], engine)
        if engine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(engine.device)
        seconds = _median_seconds(distiller, optimizer, batches, engine)
        peak = torch.cuda.max_memory_allocated(engine.device) if engine.device.type == "cuda" else None
        memory = memory_of(distiller, optimizer, average=average, activations=activations, gpu_peak=peak)
        alone_seconds = seconds
        if distiller.teacher is not None:
            alone_seconds = _median_seconds(alone, optimizer, batches, engine)
    return StepCost(seconds=seconds, alone_seconds=alone_seconds, memory=memory, parts=parts, pulls=report.pulls)


@contextmanager
def _as_before(distiller: Distiller, optimizer: Optimizer) -> Generator[None]:
    """Whatever is done meanwhile is undone."""
    weights = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    gradients = [(p, p.grad) for p in distiller.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    try:
        with seeded(0, device=device):
            yield
    finally:
        distiller.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _median_seconds(module: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], engine: Engine) -> float:
    """Of a step, after one to warm up."""
    _step(module, optimizer, batches[0], engine)
    taken: list[float] = []
    while len(taken) < _STEPS and (not taken or sum(taken) < _ENOUGH_SECONDS):
        _finish(engine)
        started = time.perf_counter()
        _step(module, optimizer, batches[len(taken) % len(batches)], engine)
        _finish(engine)
        taken.append(time.perf_counter() - started)
    return median(taken)


def _step(module: nn.Module, optimizer: Optimizer, batch: Batch, engine: Engine) -> None:
    optimizer.zero_grad(set_to_none=True)
    with engine.autocast():
        total: Tensor = module(batch).total
    total.backward()
    optimizer.step()


def _finish(engine: Engine) -> None:
    """A GPU may still be at work."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
