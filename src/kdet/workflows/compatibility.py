"""Which detectors can serve a method: what its views ask for against what each adapter gives."""

from collections.abc import Mapping
from typing import Any

from kdet.detectors import DETECTORS
from kdet.distill import Method
from kdet.types import Need

_FROM_THE_LABELS = frozenset({Need.ASSIGNMENT, Need.LOSSES})
"""What only a student has, since only the student is trained."""


def served(method: Method) -> str:
    """Name the DETECTORS that can be both sides of a pair under this method, and the options that some need."""
    by_default = _detectors(method, {})
    parts = [", ".join(by_default)] if by_default else []
    for written, options in method.variants.items():
        if further := [name for name in _detectors(method, options) if name not in by_default]:
            parts.append(f"{', '.join(further)} with {written}")
    if by_default == list(DETECTORS):
        return "any"
    return "; ".join(parts) or "none yet"


def _detectors(method: Method, options: Mapping[str, Any]) -> list[str]:
    """Names, each with its models in brackets where not all of them can."""
    of_student, of_teacher = method.needs(options)
    needs = of_student | of_teacher - _FROM_THE_LABELS
    found: list[str] = []
    for name, models in DETECTORS.items():
        if able := [model for model, gives in models.items() if needs <= gives]:
            found.append(name if len(able) == len(models) else f"{name} ({', '.join(able)})")
    return found
