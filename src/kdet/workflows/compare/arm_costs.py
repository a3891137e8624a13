"""What a step of each arm costs, measured beside each other: training runs that shared a machine say nothing of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from kdet.errors import one_line
from kdet.files import parse_json, read_text
from kdet.train import Recipe
from kdet.train.processes.memory import kept_for_backward, memory_of
from kdet.train.state.run_folder import write_json
from kdet.workflows.check.run import Probe, probe
from kdet.workflows.check.step_cost import Side, seconds_in_turns
from kdet.workflows.compare.arms import Arm, recipe_for

STEPS = "steps.json"
"""File in the folder of the comparison; measured once, before the first run."""


@dataclass(frozen=True, kw_only=True)
class ArmCost:
    """One step of an arm at the recipe's batch size."""

    seconds: float
    """Forward, backward, optimizer; median."""
    memory_bytes: int
    """Weights, gradients, optimizer, moving average, teachers, and what is kept for the backward pass."""


def measure_arms(recipe: Recipe, path: Path, *, arms: Sequence[Arm], fair_start: bool = False) -> None:
    """Build all arms and let their steps take turns in this process; writes the file.

    Args:
        recipe: of the comparison.
        path: of the file; it holds a reason and no arms where they do not all fit into the memory, or one breaks.
        arms: `none` first.
        fair_start: as of `recipe_for`.
    """
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "batch_size": recipe.train.batch_size,
        "arms": {},
    }
    try:
        sides = [probe(recipe_for(recipe, arm, recipe.train.seed, fair_start=fair_start)) for arm in arms]
        memory = [_memory(side) for side in sides]
        seconds = seconds_in_turns([_side(side) for side in sides], sides[0].engine)
        for arm, own, held in zip(arms, seconds, memory, strict=True):
            found["arms"][arm.name] = asdict(ArmCost(seconds=own, memory_bytes=held))
    except (RuntimeError, MemoryError, ValueError) as error:  # if it is more than memory, the arm's run will say so
        found["reason"] = one_line(error)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)


def measured(path: Path) -> dict[str, Any]:
    """Read what `measure_arms` wrote; empty where there is no such file, or it is damaged."""
    content = parse_json(read_text(path) or "{}", str(path))
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def covers(found: Mapping[str, Any], arms: Sequence[Arm]) -> bool:
    """Whether these arms were measured beside each other, or could not be."""
    return "arms" in found and (not found["arms"] or {arm.name for arm in arms} <= set(found["arms"]))


def _side(own: Probe) -> Side:
    return Side(distiller=own.distiller, optimizer=own.optimizer, batches=own.batches)


def _memory(side: Probe) -> int:
    activations = kept_for_backward(side.distiller, side.batches[0], side.engine)
    average = side.recipe.train.ema is not None
    return memory_of(side.distiller, side.optimizer, average=average, activations=activations).total
