"""Which split of a data set is meant: one that is there, under one of its usual names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from kdet.errors import InputError

NAMES = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What tools call a split; the first that is there counts."""
UNDIVIDED = "has no splits, so that all of it is read as"
"""Part of the note about a set that nobody divided."""
_WHOLE = ("default", "all", "")
"""What they call a data set that nobody divided."""
_T = TypeVar("_T")


def chosen(where: Path, wanted: str, found: Mapping[str, _T]) -> tuple[_T, tuple[str, ...]]:
    """Return the split that is meant, and what should be said about it.

    Args:
        where: begins every line.
        wanted: "train", "val", or any name that a user gives.
        found: the splits that are there by the names that their files or folders have; "" is a set without splits.

    Raises:
        InputError: it is not there; lists those that are.
    """
    for name in (wanted, *NAMES.get(wanted, ())):
        if (key := _key(name, found)) is not None:
            return found[key], ()
    if wanted == "val" and (key := _test(found)) is not None:
        return found[key], (f"{where}: there is no validation split; {key!r} is taken for it",)
    if wanted in NAMES and found and all(key.lower() in _WHOLE for key in found):
        note = f"{where}: {UNDIVIDED} {wanted!r}"
        return next(iter(found.values())), (note,) if wanted != "train" else ()
    there = ", ".join(repr(key) if key else "one without a name" for key in found) or "none"
    raise InputError(
        f"{where}: no split {wanted!r}; looked for {' or '.join(NAMES.get(wanted, (wanted,)))}, found {there}; "
        "name one that is there with --split, or divide the data with --split-off"
    )


def is_split(name: str) -> bool:
    """Whether a file or folder is called like a split: `Train`, `val2017`, `default`."""
    return name.lower() in _WHOLE or any(_means(name, known) for names in NAMES.values() for known in names)


def _test(found: Mapping[str, object]) -> str | None:
    return next((key for name in NAMES["test"] if (key := _key(name, found)) is not None), None)


def _key(name: str, found: Mapping[str, object]) -> str | None:
    """The key that is this name, else one that is it with a year or a number behind."""
    exact = [key for key in found if key.lower() == name.lower()]
    return next(iter(exact or [key for key in found if _means(key, name)]), None)


def _means(key: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(name.lower())}([-_]?\d.*)?", key.lower()) is not None
