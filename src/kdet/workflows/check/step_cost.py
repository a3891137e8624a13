"""What a step of a recipe costs: seconds with and without the teacher, and where the memory goes. Measured."""

import copy
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.optim import Optimizer

from kdet.distill import Distiller
from kdet.distill.weighting.balance import WINDOW
from kdet.ops.randomness import seeded
from kdet.train.processes.engine import Engine
from kdet.train.processes.memory import Memory, kept_for_backward, memory_of
from kdet.types import Batch

_STEPS = 5
_ENOUGH_SECONDS = 10.0
"""Duration of timed steps that is enough; where one step takes longer, one must do."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One step at the recipe's batch size on this machine."""

    seconds: float
    """Median seconds of a step (forward, backward, optimizer) with the teacher, or of a student alone without one."""
    alone_seconds: float
    """The same without teacher and terms."""
    memory: Memory
    parts: dict[str, float]
    """The loss of the first batch, weighted, schedules set aside."""


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
    own = Side(distiller=distiller, optimizer=optimizer, batches=batches)
    alone = Side(distiller=Distiller(distiller.student).train(), optimizer=optimizer, batches=batches)
    with _as_before(own):
        with engine.autocast():
            report = distiller(batches[0])
        parts = {name: float(value.detach()) for name, value in report.parts.items()}
        activations = kept_for_backward(distiller, batches[0], engine)
        if engine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(engine.device)
        seconds = _in_turns([own, alone] if distiller.teacher is not None else [own], engine)
        peak = torch.cuda.max_memory_allocated(engine.device) if engine.device.type == "cuda" else None
        memory = memory_of(distiller, optimizer, average=average, activations=activations, gpu_peak=peak)
    return StepCost(seconds=seconds[0], alone_seconds=seconds[-1], memory=memory, parts=parts)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of several distillers whose steps are timed beside each other."""

    distiller: Distiller
    """Distiller on the engine's device, in training mode."""
    optimizer: Optimizer
    batches: Sequence[Batch]
    """Batches on that device, at least one."""


def seconds_in_turns(sides: Sequence[Side], engine: Engine) -> list[float]:
    """Measure the median seconds of a step of each; afterwards all is as before.

    They take turns, the last one first in every other round: what else the machine does meets all of them alike.
    """
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(_as_before(side))
        return _in_turns(sides, engine)


@contextmanager
def _as_before(side: Side) -> Generator[None]:
    """Whatever is done meanwhile is undone; the learning rate is 0, so that no step can break the weights."""
    distiller, optimizer = side.distiller, side.optimizer
    weights = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    gradients = [(p, p.grad) for p in distiller.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    try:
        with seeded(0, device=side.batches[0].images.device):
            yield
    finally:
        distiller.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _in_turns(sides: Sequence[Side], engine: Engine) -> list[float]:
    """Time the steps in turns, after one step of each to warm up."""
    for side in sides:
        _step(side, 0, engine)
        if side.distiller.criterion is not None:  # a run calibrates `weight: auto` in one batch of many
            side.distiller.criterion.balance.batches.fill_(WINDOW)
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(_STEPS):
        if sum(map(sum, taken)) > _ENOUGH_SECONDS * len(sides):
            break
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for place in order:
            _finish(engine)
            started = time.perf_counter()
            _step(sides[place], turn, engine)
            _finish(engine)
            taken[place].append(time.perf_counter() - started)
    return [median(own) for own in taken]


def _step(side: Side, turn: int, engine: Engine) -> None:
    side.optimizer.zero_grad(set_to_none=True)
    with engine.autocast():
        total: Tensor = side.distiller(side.batches[turn % len(side.batches)]).total
    total.backward()
    side.optimizer.step()


def _finish(engine: Engine) -> None:
    """A GPU may still be at work."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
