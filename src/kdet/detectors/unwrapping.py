"""What trainers put around a model's weights, taken off: dictionaries, averages beside them, prefixes of names."""

import re
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any, TypeGuard, cast

import numpy as np
from torch import Tensor

from kdet.errors import InputError

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "student", "module", "weights")
_AVERAGES = ("ema_state_dict", "model_ema", "state_dict_ema", "ema_model", "ema")
_PREFIXES = ("module.", "_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.")
"""Key prefixes from DataParallel and DDP, torch.compile, Lightning's Fabric and FSDP."""
_MOST_DEEP = 4
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_MULTIARRAY: Any = getattr(np, "_core" if hasattr(np, "_core") else "core").multiarray
HARMLESS: list[Any] = [
    *(Namespace, PosixPath, PurePosixPath, defaultdict),
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
        if not isinstance(at, dict) or is_state(at):
            break
        found = cast("dict[Any, Any]", at)
        inner = next((key for key in (*_WRAPPERS, *_AVERAGES) if isinstance(found.get(key), dict) and found[key]), None)
        if inner is None:
            break
        beside = [key for key in _AVERAGES if key != inner and isinstance(found.get(key), dict)]
        said.append(f"its {inner!r} is taken" + (f", not the average under {beside[0]!r}" if beside else ""))
        at = found[inner]
    if not is_state(at):
        keys = f" with {', '.join(map(repr, list(loaded)[:6]))}" if isinstance(loaded, dict) else ""
        raise InputError(
            f"{path}: expected a state_dict (name → tensor), got {type(loaded).__name__}{keys}; save the model's "
            "state_dict() and name that file"
        )
    state = {name: value for name, value in at.items() if name != "n_averaged"}
    while prefix := next((p for p in _PREFIXES if state and all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        said.append(f"{prefix!r} is taken off its names")
    return state, tuple(said)


def is_state(content: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether something is a state dict."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def without_prefix(state: Mapping[str, Tensor], own: Sequence[str]) -> tuple[dict[str, Tensor], str]:
    """Return a state dict under a model's own names, where all of them stand behind one word; and that word.

    Lightning and trainers of one's own keep the model as an attribute, and beside it losses or a teacher.
    """
    wanted = set(own)
    if wanted & set(state):
        return dict(state), ""
    words = Counter(name.partition(".")[0] for name in state)
    for word, _ in words.most_common(4):
        found = {name.removeprefix(f"{word}."): v for name, v in state.items() if name.startswith(f"{word}.")}
        if 2 * len(wanted & set(found)) > len(wanted):
            return found, word
    return dict(state), ""


def said_by_torch(error: Exception) -> str:
    """Why torch does not read a file, without terminal codes and advice to run what is in it."""
    text = _ESCAPES.sub("", str(error)) or type(error).__name__
    if refused := re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|operand)\D*([\w.]+)", text):
        return f"it holds objects of {refused.group(1) or refused.group(2)}, whose reading could run code"
    return text.splitlines()[0]
