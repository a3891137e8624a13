"""What a check found wrong."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One thing to know or to mend."""

    check: str
    """The section of the check that found it: data, classes, levels, teacher, terms, step, memory or trial."""
    status: Literal["warning", "failed"]
    """failed: distillation would not act. warning: it would, and may not be worth it."""
    text: str
    """What is wrong, where, and how to mend it."""
