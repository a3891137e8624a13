"""No test asks how fast the machine is: what is waited for has half an hour, and input is refused in processor time."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from patience import deadline, wait_until

HERE = Path(__file__).parent
CLOCKS = re.compile(r"timeout=[1-9]|deadline=[^N]|\bmonotonic\(|\btime\(\)|\balarm\(|ITIMER_REAL")
"""Numbers of seconds, and clocks that go on while a process waits for its turn."""
KEEPERS = {"patience.py", "test_patience.py"}


def test_limits_of_wall_clock_stand_in_one_place() -> None:
    found = {
        f"{path.relative_to(HERE)}: {line.strip()}"
        for path in HERE.rglob("*.py")
        if path.name not in KEEPERS
        for line in path.read_text(encoding="utf-8").splitlines()
        if CLOCKS.search(line)
    }
    assert not found


def test_hypothesis_has_no_clock() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None and HealthCheck.too_slow in settings.default.suppress_health_check


def test_a_deadline_is_of_the_processor() -> None:
    with deadline(1):
        time.sleep(1.1)
    with pytest.raises(TimeoutError, match="at work"), deadline(1):
        while True:
            pass


def test_who_waits_sees_that_nobody_is_left_to_wait_for() -> None:
    wait_until(lambda: True, lambda: True)
    with pytest.raises(AssertionError, match="before it came to that"):
        wait_until(lambda: False, lambda: True)
