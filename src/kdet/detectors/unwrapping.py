"""What trainers put around a model's weights, taken off: dictionaries, averages beside them, prefixes of names."""

import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path, PosixPath, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kdet.errors import InputError, one_line

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "student", "module", "weights")
_SECOND = ("ema", "average", "swa", "teacher")
"""Words in the names of what lies beside the model that was trained, and is taken where nothing else is."""
_INSIDE = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Words of torch.compile, Lightning's Fabric, FSDP and activation checkpointing, anywhere in a name; no module is
called so."""
_PREFIX = "module."
"""Prefix of DataParallel and DDP."""
_MOST_DEEP = 4
_FEW = 4
"""Tensors under a key that nobody knows, below which they are no model."""
_PROBED = 8
"""Number of a model's names that show behind which words they stand in a file."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_MULTIARRAY: Any = getattr(np, "_core" if hasattr(np, "_core") else "core").multiarray
HARMLESS: list[Any] = [
    *(Namespace, SimpleNamespace, PosixPath, PurePosixPath, defaultdict),
    *(datetime, date, timedelta),
    *((PosixPath, f"pathlib.{name}") for name in ("WindowsPath", "_local.PosixPath", "_local.WindowsPath")),
    *(_MULTIARRAY.scalar, _MULTIARRAY._reconstruct, np.ndarray, np.dtype),
    *(
        (_MULTIARRAY.scalar, "numpy.core.multiarray.scalar"),
        (_MULTIARRAY._reconstruct, "numpy.core.multiarray._reconstruct"),
    ),
    *(type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u4", "u8", "u1", "?")),
]
"""Types that stand beside tensors in many files: a trainer's arguments, paths and counts. None of them runs anything
when it is read."""


def unwrapped(path: Path, loaded: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict in what a file holds, and what was taken off to find it.

    Raises:
        InputError: there is none.
    """
    said: list[str] = []
    at = loaded
    for _ in range(_MOST_DEEP):
        if is_state(at) or (key := _inner(at)) is None:
            break
        beside = [other for other in at if other != key and _second(other) and isinstance(at[other], dict)]
        said.append(f"its {key!r} is taken" + (f", not the average under {beside[0]!r}" if beside else ""))
        at = at[key]
    if not is_state(at):
        keys = f" with {', '.join(map(repr, list(loaded)[:6]))}" if isinstance(loaded, dict) and loaded else ""
        raise InputError(
            f"{path}: expected a state_dict (name → tensor), got {type(loaded).__name__}{keys}; save the model's "
            "state_dict() and name that file"
        )
    state: dict[str, Tensor] = {}
    left_out: list[str] = []
    for name, value in at.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor) or name == "n_averaged" or name.endswith("_extra_state"):
            left_out.append(name)
        else:
            state[name] = value
    if left_out:
        said.append(f"{', '.join(left_out[:4])} in it, no weights, left out")
    for word in _INSIDE:
        if any(word in name.split(".") for name in state):
            state = {".".join(part for part in name.split(".") if part != word): v for name, v in state.items()}
            said.append(f"{word!r} is taken out of its names")
    while state and all(name.startswith(_PREFIX) for name in state):
        state = {name.removeprefix(_PREFIX): value for name, value in state.items()}
        said.append(f"{_PREFIX!r} is taken off its names")
    return state, tuple(said)


def _inner(content: Any) -> str | None:
    """The key under which a dictionary keeps the weights; None where it keeps none."""
    if not isinstance(content, dict):
        return None
    found = cast("dict[Any, Any]", content)
    known = [key for key in _WRAPPERS if key in found]
    others = [key for key in found if isinstance(key, str) and key not in known]
    in_order = [*known, *(key for key in others if not _second(key)), *(key for key in others if _second(key))]
    return next(
        (key for key in in_order if _holds_state(found[key], _MOST_DEEP - 1, 1 if key in known else _FEW)), None
    )


def _holds_state(content: Any, deep: int, least: int) -> bool:
    """Whether something is a state dict of so many tensors, or has one inside."""
    if is_state(content):
        return len(content) >= least
    inside = content.values() if deep > 0 and isinstance(content, dict) else ()
    return any(_holds_state(value, deep - 1, least) for value in inside)


def _second(name: object) -> bool:
    return isinstance(name, str) and any(word in name.lower() for word in _SECOND)


def is_state(content: Any) -> bool:
    """Whether something is a state dict: tensors by name, with at most a few plain values beside them."""
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        return False
    values = [value for name, value in content.items() if name != "_metadata"]
    tensors = sum(isinstance(value, Tensor | np.ndarray) for value in values)
    return 2 * tensors > len(values) and not any(isinstance(value, dict | list | tuple) for value in values)


def without_prefix(state: Mapping[str, Tensor], own: Sequence[str]) -> tuple[dict[str, Tensor], str]:
    """Return a state dict under a model's own names, where most of them stand behind the same words; and these words.

    Lightning and trainers of one's own keep the model as an attribute, and beside it losses, an average or a teacher.
    """
    wanted = set(own)
    if 2 * len(wanted & set(state)) > len(wanted):
        return dict(state), ""
    ends = [f".{name}" for name in own[:_PROBED]]
    befores = dict.fromkeys(name.removesuffix(end) for end in ends for name in state if name.endswith(end))
    for before in sorted(befores, key=_second):
        found = {name.removeprefix(f"{before}."): v for name, v in state.items() if name.startswith(f"{before}.")}
        if 2 * len(wanted & set(found)) > len(wanted):
            return found, before
    return dict(state), ""


def said_by_torch(error: Exception) -> str:
    """Return why torch does not read a file, without terminal codes and advice to run what is in it."""
    text = _ESCAPES.sub("", str(error)) or type(error).__name__
    if refused := re.search(r"GLOBAL ([\w.]+)|Unsupported class\W*([\w.]+)", text):
        return f"it holds objects of {refused.group(1) or refused.group(2)}, whose reading could run code"
    if "Unsupported operand" in text:
        return "it does not begin as one"
    # Its first sentences advise to run whatever is in the file.
    meant = re.search(r"WeightsUnpickler error:\s*([^\n]+)", text)
    return one_line(meant.group(1) if meant else text.splitlines()[0])[:200]
