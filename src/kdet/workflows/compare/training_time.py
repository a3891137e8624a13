"""AP against training time, every arm on one fair axis: steps taken, times what a step was measured to cost.

Not the time that the runs took: some of them stood beside others, and the machine had other work. Loading images and
looking at AP is in neither.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from kdet.workflows.compare.gain import Finished

Line = dict[str, list[float] | None]
"""`seconds` (None where no step was measured), `step` and `AP` of the looks."""


def ap_over_time(
    runs: Mapping[str, Sequence[Finished]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return for each arm its `mean` over the seeds, at the steps at which all looked, and `seeds`, one line each.

    Args:
        runs: by arm, in the order of the seeds.
        rows: of `arm_rows`, for the time of each arm.
    """
    times = {row["name"]: row["time"] for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for name, of_seeds in runs.items():
        taken, time = fmean(run.steps for run in of_seeds), times[name]
        a_step = None if time is None or not taken else time / taken
        common = sorted(set.intersection(*({step for step, _ in run.looks} for run in of_seeds)))
        by_step = [dict(run.looks) for run in of_seeds]
        mean = [(step, fmean(looks[step] for looks in by_step)) for step in common]
        found[name] = {"mean": _line(mean, a_step), "seeds": [_line(run.looks, a_step) for run in of_seeds]}
    return found


def ap_by(line: Line, seconds: float) -> float | None:
    """Return the AP after so much training: that of the last look before; None before the first, or without times."""
    times, aps = line["seconds"], line["AP"]
    if times is None or aps is None:
        return None
    place = bisect_right(times, seconds * (1 + 1e-9))
    return aps[place - 1] if place else None


def _line(looks: Sequence[tuple[int, float]], seconds_a_step: float | None) -> Line:
    return {
        "seconds": None if seconds_a_step is None else [step * seconds_a_step for step, _ in looks],
        "step": [step for step, _ in looks],
        "AP": [ap for _, ap in looks],
    }
