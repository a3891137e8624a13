"""All that resume needs, written so that a kill at any moment leaves one complete state."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from kdet.detectors.weights import load_torch
from kdet.errors import InputError
from kdet.files import parse_json, read_text
from kdet.tensor_file import save_tensors
from kdet.train.state.run_folder import sync

_WEIGHTS = "trainables.safetensors"
_AVERAGE = "average.safetensors"
_OPTIMIZER = "optimizer.pt"
_COUNTERS = "counters.json"


@dataclass
class Counters:
    """Position of a run."""

    epoch: int = 0
    """The epoch in progress."""
    batch: int = 0
    """Batches of this epoch that are done."""
    step: int = 0
    """Optimizer steps that are done."""
    best_ap: float = -1.0
    best_epoch: int = -1
    best_step: int = -1
    """-1 before the first look, and where an earlier kdet made it."""
    misses: int = 0
    """Looks at AP in a row without a new best."""
    evaluated: int = 0
    """The step of the last look at AP."""
    seconds: float = 0.0
    """Training time so far, evaluation left out."""
    scaler: dict[str, float] = field(default_factory=dict[str, float])
    """State of fp16's gradient scaler."""


def save(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
    average: nn.Module | None,
    counters: Counters,
) -> None:
    """Write the state beside the old one, then let it take the old one's name.

    Args:
        folder: of the state.
        weights: `state_dict()` of all that is trained.
        optimizer: its `state_dict()`.
        average: the moving average, where the run keeps one.
        counters: where the run stands; the random numbers of a step follow from it.

    Raises:
        InputError: the disk is full or read-only; the old state is intact.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        save_tensors(weights, new / _WEIGHTS)
        if average is not None:
            save_tensors(average.state_dict(), new / _AVERAGE)
        torch.save(optimizer, new / _OPTIMIZER)
        (new / _COUNTERS).write_text(json.dumps(asdict(counters)), encoding="utf-8")
        for path in new.iterdir():
            sync(path)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{folder}: the state could not be saved ({error.strerror}); the state before it is intact: make room, "
            "and go on "
            "with --resume"
        ) from None


def load(folder: Path, module: nn.Module, optimizer: Optimizer, average: nn.Module | None) -> Counters:
    """Put everything back.

    Raises:
        InputError: nothing complete was saved, or it belongs to another recipe.
    """
    if not folder.exists():
        folder = folder.with_name(folder.name + ".old")  # killed between the two renames
    try:
        module.load_state_dict(_of_this_module(load_file(folder / _WEIGHTS), module))
        if average is not None:
            average.load_state_dict(load_file(folder / _AVERAGE))
        saved = load_torch(folder / _OPTIMIZER)
        _require_same_groups(optimizer, saved)
        optimizer.load_state_dict(saved)
        return _counters(folder / _COUNTERS)
    except FileNotFoundError:
        raise InputError(f"{folder}: the run saved no state yet; start it anew under another name with --run") from None
    except Exception as error:  # broken bytes make each of these readers stumble in its own way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{folder}: the saved state is damaged or does not fit this recipe ({reason}); begin anew under another "
            "name "
            "with --run"
        ) from None


def _require_same_groups(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Else torch loads moments into other tensors, where their numbers happen to fit."""
    ours, theirs = (
        [(group.get("name"), len(group["params"])) for group in groups]
        for groups in (optimizer.param_groups, saved["param_groups"])
    )
    if ours != theirs:
        raise ValueError(
            f"its optimizer has {_counted(theirs)}, this run's {_counted(ours)}: another version of kdet saved it; "
            "start the run anew under another name"
        )


def _counted(groups: Sequence[tuple[str | None, int]]) -> str:
    counts = "+".join(str(count) for _, count in groups)
    return f"{len(groups)} group{'' if len(groups) == 1 else 's'} of {counts} tensors"


def _of_this_module(weights: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The weights, if they are those of a module like this."""
    saved, own = ({name: t.shape for name, t in state.items()} for state in (weights, module.state_dict()))
    if others := sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name)):
        more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
        raise ValueError(f"{others[0]}{more} not the same there: another recipe, or another version of kdet")
    return weights


def _counters(path: Path) -> Counters:
    counters = Counters(**parse_json(read_text(path) or "", str(path)))
    whole = (counters.epoch, counters.batch, counters.step, counters.misses)
    if not all(type(count) is int and 0 <= count < 2**53 for count in whole) or {
        type(counters.best_epoch),
        type(counters.best_step),
    } != {int}:
        raise ValueError(f"{path}: epoch, batch, step and misses are no counts")
    if not math.isfinite(counters.best_ap + counters.seconds):
        raise ValueError(f"{path}: best_ap and seconds are not finite")
    return counters
