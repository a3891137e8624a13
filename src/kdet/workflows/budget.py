"""How long a study may take, as a person writes it."""

import re

from kdet.errors import InputError

_UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds_of(text: str, option: str = "--budget") -> float:
    """Parse a duration such as 2h, 90m, 1h30m or 45s.

    Raises:
        InputError: anything else, or no time at all.
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    seconds = (
        sum(float(part or 0) * size for part, size in zip(found.groups(), _UNITS.values(), strict=True)) if found else 0
    )
    if seconds <= 0:
        raise InputError(f"{option} {text}: expected a time such as 2h, 90m or 1h30m")
    return seconds
