"""What the benchmarks share: the device, jobs that take turns, bars that are met or missed, where it was measured."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Of what is computed; `CUDA_VISIBLE_DEVICES=` chooses the processor."""


def medians(turns: Mapping[str, list[float]]) -> dict[str, float]:
    """Of each job's runs."""
    return {name: statistics.median(values) for name, values in turns.items()}


def in_turns(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run of each job; the jobs take turns, so that whatever else the machine does hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            finish()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def finish() -> None:
    """Wait for what a GPU still computes."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def verdict(what: str, value: float, relation: str, limit: float) -> str:
    """One line: a measured value against the limit that it must not pass."""
    met = value <= limit if relation == "<=" else value >= limit
    missed_by = max(value / limit, limit / value) - 1
    return f"{'met' if met else f'missed by {missed_by:.0%}':16} {what} = {value:.2f}, {relation} {limit:g}"


def fill(page: Path, command: str, rows: str) -> None:
    """Put a table between the comment that names its command and `<!-- end of the table -->`, and print it."""
    before, rest = page.read_text(encoding="utf-8").split(f"<!-- `{command}` -->\n")
    after = rest[rest.index("<!-- end of the table -->") :]
    page.write_text(f"{before}<!-- `{command}` -->\n{rows}\n{after}", encoding="utf-8")
    print(rows)


def whereabouts() -> dict[str, Any]:
    """Date, commit, machine and versions."""
    # Here alone: what it imports would count as memory of the processes that data.py measures.
    from kdet.train.state.run_folder import environment

    return {key: value for key, value in environment(0).items() if key not in ("command", "seed")}
