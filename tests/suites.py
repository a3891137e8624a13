"""Which cases of a test every run tries, and which wait for the long suite."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def quick(values: Iterable[Any], chosen: Callable[..., bool]) -> list[Any]:
    """All values as cases; those that are not chosen are long. A tuple is a case of several arguments."""
    cases = [(value if isinstance(value, tuple) else (value,), value) for value in values]
    return [
        pytest.param(*arguments, marks=[] if chosen(*arguments) else pytest.mark.long, id=_id(value))
        for arguments, value in cases
    ]


def _id(value: Any) -> str | None:
    parts = value if isinstance(value, tuple) else (value,)
    return "-".join(map(str, parts)) if all(isinstance(part, str | int) for part in parts) else None
