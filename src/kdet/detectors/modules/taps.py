"""Outputs of a module's inner layers by path: hooks while a context is open, and none afterwards.

A tap is a dotted path as in `named_modules()`, with picks where that module returns several things:
`neck`, `backbone.layers.2`, `neck[0]`, `neck[p3]` (or `neck['p3']`), `neck[maps][0]`, `[0]` (of the whole model).
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from kdet.errors import InputError

_WRITTEN = re.compile(r"(?P<path>[\w.]*)(?P<picks>(?:\[[^\[\]]+\])*)")
_PICK = re.compile(r"\[([^\[\]]+)\]")
_NEAR = 3


@dataclass(frozen=True, kw_only=True)
class Tap:
    """Place to listen at, and what to take of what is heard."""

    written: str
    path: str
    picks: tuple[str, ...]


@dataclass(frozen=True)
class Heard:
    """One output of a tapped module, and how often each of its tensors had been written to by then."""

    output: Any
    versions: dict[int, int]


def read_tap(written: str, model: nn.Module) -> Tap:
    """Return a tap as the user writes it, checked against the model's own paths.

    Raises:
        InputError: not a path, or no such module; the near ones are named.
    """
    found = _WRITTEN.fullmatch(written)
    if found is None or not written:
        raise InputError(f"tap {written!r}: expected a module's path, with picks such as neck[0] or neck['p3']")
    paths = [path for path, _ in model.named_modules()]
    if found["path"] not in paths:
        near = get_close_matches(found["path"], paths, n=_NEAR, cutoff=0.4)
        way_out = f"near: {', '.join(near)}" if near else f"it has {', '.join(p for p, _ in model.named_children())}"
        raise InputError(f"tap {written!r}: {type(model).__name__} has no module {found['path']!r}; {way_out}")
    picks = tuple(pick.strip("'\"") for pick in _PICK.findall(found["picks"]))
    return Tap(written=written, path=found["path"], picks=picks)


@contextmanager
def listening(model: nn.Module, taps: Sequence[Tap]) -> Generator[dict[str, list[Heard]]]:
    """Collect what the tapped modules return while the context is open, by path, one entry per run."""
    heard: dict[str, list[Heard]] = {tap.path: [] for tap in taps}
    hooks = [model.get_submodule(path).register_forward_hook(_listener(kept)) for path, kept in heard.items()]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def picked(tap: Tap, heard: Mapping[str, Sequence[Heard]]) -> Tensor:
    """Return the one N×C×H×W that a tap means.

    Raises:
        InputError: its module did not run, ran several times or gave something else, or a later layer wrote into it.
    """
    runs = heard[tap.path]
    if len(runs) != 1:
        wrong = (
            "it never ran in this pass; tap a module that the forward pass calls"
            if not runs
            else f"it ran {len(runs)} times in one pass, so its output has no single meaning; tap what runs once"
        )
        raise InputError(f"tap {tap.written!r}: {wrong}")
    value = runs[0].output
    for pick in tap.picks:
        value = _entry(value, pick, tap)
    if not isinstance(value, Tensor) or value.ndim != 4:
        raise InputError(f"tap {tap.written!r}: expected a tensor N×C×H×W, got {_described(value)}")
    if value._version != runs[0].versions.get(id(value), value._version):  # pyright: ignore[reportPrivateUsage]
        raise InputError(f"tap {tap.written!r}: a later layer writes into this output in place; tap that layer instead")
    return value


def _listener(kept: list[Heard]) -> Callable[[nn.Module, Any, Any], None]:
    def listen(module: nn.Module, given: Any, output: Any) -> None:
        kept.append(Heard(output, {id(t): t._version for t in _tensors(output)}))  # pyright: ignore[reportPrivateUsage]

    return listen


def _entry(value: Any, pick: str, tap: Tap) -> Any:
    if isinstance(value, Mapping):
        if pick in value:
            return value[pick]
        has = f"its keys are {', '.join(map(str, value))}"
    elif isinstance(value, list | tuple):
        if pick.lstrip("-").isdigit() and -len(value) <= int(pick) < len(value):
            return value[int(pick)]
        has = f"it has {len(value)} entries"
    else:
        has = f"it is {_described(value)}"
    raise InputError(f"tap {tap.written!r}: there is no [{pick}] in this output; {has}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a mapping; pick one of {', '.join(f'[{key}]' for key in value)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}; pick one, such as [0]"
    return f"a {type(value).__name__}"


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
