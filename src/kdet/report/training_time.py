"""AP against training time, and each method beside the student alone that was trained for longer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdet.report.charts import Chart, Series, line_chart
from kdet.report.curves import from_zero, number

_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""Units of time: from how many seconds on, seconds of one, its name."""
_NOTE = (
    "Thick: mean over seeds, with a dot where the runs end. Thin: the seeds. Time is the measured cost of a step times "
    "the steps, without evaluation. On its way a run's learning rate is high: what a time buys is shown by the dots."
)


@dataclass(frozen=True, kw_only=True)
class Against:
    """A method against one arm of the student alone."""

    arm: str
    time: float | None
    """Seconds of training of that arm."""
    gain: float
    interval: tuple[float, float] | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class LongerRow:
    """A method against the student alone for longer."""

    name: str
    time: float | None
    same_time: Against | None
    """The longest that costs no more time; None where times are not known."""
    best: Against


def longer_rows(arms: Sequence[Mapping[str, Any]]) -> list[LongerRow]:
    """Make a row for each method among the `arms` of compare.json; none where nothing was trained for longer."""
    return [
        LongerRow(
            name=str(arm["name"]),
            time=number(arm["time"]),
            same_time=None if against["same_time"] is None else _against(against["same_time"]),
            best=_against(against["best"]),
        )
        for arm in arms
        if (against := arm.get("against_longer")) is not None
    ]


def time_chart(lines: Mapping[str, Mapping[str, Any]]) -> Chart | None:
    """Return AP of every arm over its training time; None where no step was measured, or no run looked.

    Args:
        lines: `ap_over_time` of compare.json; the order gives the colours.
    """
    longest = max((max(line["mean"]["seconds"] or [0.0]) for line in lines.values()), default=0.0)
    if not longest:
        return None
    _, second, unit = next(found for found in _UNITS if longest >= found[0])
    series: list[Series] = []
    for slot, (name, of_arm) in enumerate(lines.items()):
        several = len(of_arm["seeds"]) > 1
        for line, faint in [*((seed, True) for seed in of_arm["seeds"] if several), (of_arm["mean"], False)]:
            if line["seconds"]:
                x = [value / second for value in line["seconds"]]
                series.append(Series(name=name, x=x, y=line["AP"], slot=slot, faint=faint))
    points = [("", list(zip(one.x, one.y, strict=True))) for one in series]
    return line_chart(
        "AP against training time",
        series,
        x_label=unit,
        y_limits=from_zero(points),
        x_limits=(0.0, longest / second),
        mark_ends=True,
        note=_NOTE,
    )


def _against(found: Mapping[str, Any]) -> Against:
    ends = found["interval"]
    return Against(
        arm=str(found["arm"]),
        time=number(found["time"]),
        gain=float(found["gain"]),
        interval=None if ends is None else (float(ends[0]), float(ends[1])),
        verdict=str(found["verdict"]),
    )
