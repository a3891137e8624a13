"""Which cases of a test every run tries, and which wait for the long suite."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def quick(values: Iterable[Any], chosen: Callable[..., bool]) -> list[Any]:
    """All values as cases; those that are not chosen are long. A tuple is a case of several arguments."""
    cases = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*case, marks=[] if chosen(*case) else pytest.mark.long) for case in cases]
