"""Which lines a page shows of its runs: losses, AP while training, precision over recall, AP over IoU."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, cast

from kdet.report.charts import Chart, Series, line_chart
from kdet.report.collect import RunSummary

Named = Mapping[str, RunSummary]
"""Runs by the name they bear on the page; their order gives the colours."""
Points = Sequence[tuple[float, float]]

_TASK = "task/"
_UNIT = (0.0, 1.02)
"""An axis of shares; a little above 1 so that a line at 1 is seen whole."""


def number(value: Any) -> float | None:
    """A finite number out of a JSON file, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def loss_parts(run: RunSummary, title: str = "Training loss by part") -> Chart | None:
    """Every weighted part of the loss over the steps, and their sum where there are several."""
    names = dict.fromkeys(name for step in run.steps for name in step.parts)
    lines = [(name, [(step.step, step.parts[name]) for step in run.steps if name in step.parts]) for name in names]
    if len(lines) != 1:
        lines.insert(0, ("total", [(step.step, step.total) for step in run.steps]))
    return _chart(title, lines, x_label="step")


def task_loss(runs: Named, title: str = "Task loss while training") -> Chart | None:
    """The detector's own losses of each run, distillation left out: the part that runs have in common."""
    return _chart(title, [(name, _task_points(run)) for name, run in runs.items()], x_label="step")


def ap_while_training(runs: Named, title: str = "AP while training") -> Chart | None:
    """AP of each run's looks; None where no run looked twice."""
    if all(len(run.evaluations) < 2 for run in runs.values()):
        return None
    lines = [(name, _looks(run)) for name, run in runs.items()]
    return _chart(title, lines, x_label="epoch", y_limits=_from_zero(lines), whole_x=True)


def ap_against_teacher(run: RunSummary, title: str = "AP while training") -> Chart | None:
    """AP of one run's looks under the level of its teacher; None where it did not look twice."""
    looks = _looks(run)
    if len(looks) < 2:
        return None
    lines: list[tuple[str, Points]] = [("AP", looks)]
    if (level := number(run.teacher_ap)) is not None:
        lines.append(("teacher's AP", [(looks[0][0], level), (looks[-1][0], level)]))
    return _chart(title, lines, x_label="epoch", y_limits=_from_zero(lines), whole_x=True)


def precision_recall(runs: Named, iou: str = "50") -> Chart | None:
    """Precision over recall at one IoU (in percent), mean over classes."""
    lines = [(name, _curve(run, "recall", ("precision", iou))) for name, run in runs.items()]
    title = f"Precision over recall, IoU 0.{iou}"
    return _chart(title, lines, x_label="recall", y_limits=_UNIT, x_limits=_UNIT)


def ap_over_iou(runs: Named) -> Chart | None:
    """How AP falls when boxes must fit better."""
    lines = [(name, _curve(run, "iou", ("AP_per_iou",))) for name, run in runs.items()]
    return _chart("AP over the IoU asked for", lines, x_label="IoU", y_limits=_from_zero(lines))


def _from_zero(lines: Sequence[tuple[str, Points]]) -> tuple[float, float]:
    """From 0, so that no gain looks bigger than it is, to a little above the highest value."""
    highest = max((y for _, points in lines for _, y in points), default=0.0)
    return 0.0, min(_UNIT[1], max(0.05, highest * 1.15))


def _task_points(run: RunSummary) -> Points:
    own = [(step.step, [value for part, value in step.parts.items() if part.startswith(_TASK)]) for step in run.steps]
    return [(step, sum(values)) for step, values in own if values]


def _looks(run: RunSummary) -> Points:
    values = ((look.epoch, number(look.metrics.get("AP"))) for look in run.evaluations)
    return [(epoch, value) for epoch, value in values if value is not None]


def _curve(run: RunSummary, x_key: str, y_path: Sequence[str]) -> Points:
    """Points of curves.json; empty where the run has none."""
    y: Any = run.curves or {}
    x: Any = y.get(x_key)
    for key in y_path:
        y = cast(Mapping[str, Any], y).get(key) if isinstance(y, Mapping) else None
    if not isinstance(x, list) or not isinstance(y, list):
        return []
    pairs = zip(map(number, cast(Iterable[Any], x)), map(number, cast(Iterable[Any], y)), strict=False)
    return [(left, right) for left, right in pairs if left is not None and right is not None]


def _chart(title: str, lines: Sequence[tuple[str, Points]], **options: Any) -> Chart | None:
    """None where there is nothing to draw; a run without points leaves its colour unused."""
    series = [
        Series(name=name, x=[x for x, _ in points], y=[y for _, y in points], slot=slot)
        for slot, (name, points) in enumerate(lines)
        if points
    ]
    return line_chart(title, series, **options) if series else None
