"""Which lines a page shows of its runs: losses, pull of the terms, AP while training, precision over recall and IoU."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, cast

from kdet.report.charts import Chart, Series, line_chart
from kdet.report.collect import Json, RunSummary

Named = Mapping[str, RunSummary]
"""Runs by the name they bear on the page; their order gives the colours."""
Curves = Mapping[str, Json | None]
"""Contents of curves.json files, likewise."""
Points = Sequence[tuple[float, float]]

MOST_CLASSES = 12
"""Lines of more classes in one chart cannot be told apart."""

_TASK = "task/"
_IOU_WORDS = {"all": "mean over IoU 0.50 to 0.95"}
_UNIT = (0.0, 1.02)
"""An axis of shares; a little above 1 so that a line at 1 is seen whole."""


def number(value: Any) -> float | None:
    """Return a finite number out of a JSON file, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def loss_parts(run: RunSummary, title: str = "Training loss by part") -> Chart | None:
    """Return every weighted part of the loss over the steps, and their sum where there are several."""
    names = dict.fromkeys(name for step in run.steps for name in step.parts)
    lines = [(name, [(step.step, step.parts[name]) for step in run.steps if name in step.parts]) for name in names]
    if len(lines) != 1:
        lines.insert(0, ("total", [(step.step, step.total) for step in run.steps]))
    return _chart(title, lines, x_label="step")


def term_shares(run: RunSummary) -> Chart | None:
    """Chart how hard each distillation term pulls at the student, against the task; None where not measured."""
    lines = _pulls(run, "ratio")
    values = [ratio for _, points in lines for _, ratio in points]
    wide = bool(values) and 0 < 20 * min(values) < max(values)
    return _chart(
        "Pull of each term on the student",
        lines,
        x_label="step",
        y_limits=None if wide else (0.0, 1.15 * max([*values, 0.1])),
        note="The term's gradient at the student's neck as a multiple of the task losses' own: "
        "at 0.01 a term hardly counts, at 1 it pulls as hard as the task. Which is best must be tried.",
    )


def term_cosines(run: RunSummary) -> Chart | None:
    """Whether each term pulls the task's way."""
    return _chart(
        "Direction of each term's pull",
        _pulls(run, "cosine"),
        x_label="step",
        y_limits=(-1.05, 1.05),
        note="Cosine between the two gradients: 1 is the task's own direction, 0 has nothing to do with it, "
        "below 0 the term works against the task.",
    )


def auto_weights(run: RunSummary) -> Chart | None:
    """Return the weights that `weight: auto` came to."""
    names = dict.fromkeys(name for step in run.steps for name in step.weights)
    lines = [(name, [(step.step, step.weights[name]) for step in run.steps if name in step.weights]) for name in names]
    return _chart("Weights that were set automatically", lines, x_label="step")


def task_loss(runs: Named, title: str = "Task loss while training") -> Chart | None:
    """Return the detector's own losses of each run, distillation left out: the part that runs have in common."""
    return _chart(title, [(name, _task_points(run)) for name, run in runs.items()], x_label="step")


def ap_while_training(runs: Named, title: str = "AP while training") -> Chart | None:
    """Return AP of each run's looks; None where no run looked twice."""
    if all(len(run.evaluations) < 2 for run in runs.values()):
        return None
    lines = [(name, _looks(run)) for name, run in runs.items()]
    return _chart(title, lines, x_label="epoch", y_limits=from_zero(lines), whole_x=True)


def ap_against_teacher(run: RunSummary, title: str = "AP while training") -> Chart | None:
    """Return AP of one run's looks under the level of its teacher; None where it did not look twice."""
    looks = _looks(run)
    if len(looks) < 2:
        return None
    lines: list[tuple[str, Points]] = [("AP", looks)]
    if (level := number(run.teacher_ap)) is not None:
        lines.append(("teacher's AP", [(looks[0][0], level), (looks[-1][0], level)]))
    return _chart(title, lines, x_label="epoch", y_limits=from_zero(lines), whole_x=True)


def with_teacher(name: str, run: RunSummary) -> Curves:
    """Return the curves of one run and of its teacher, by the name they bear on the page."""
    return {name: run.curves} | ({"its teacher": run.teacher_curves} if run.teacher_curves else {})


def precision_recall(runs: Named | Curves, iou: str = "50") -> Chart | None:
    """Chart precision over recall at one IoU (in percent, or "all" for the mean over the ten), mean over classes."""
    lines = [(name, _curve(run, "recall", ("precision", iou))) for name, run in runs.items()]
    title = f"Precision over recall, {_IOU_WORDS.get(iou, f'IoU 0.{iou}')}"
    return _chart(title, lines, x_label="recall", y_limits=_UNIT, x_limits=_UNIT)


def precision_by_class(run: RunSummary, iou: str = "all") -> Chart | None:
    """Chart precision over recall of one run for each class with objects; None where there are too many."""
    per_class: Any = (run.curves or {}).get("per_class")
    if not isinstance(per_class, Mapping) or not 1 < len(cast(Mapping[str, Any], per_class)) <= MOST_CLASSES:
        return None
    names = list(cast(Mapping[str, Any], per_class))
    lines = [(name, _curve(run, "recall", ("per_class", name, iou))) for name in names]
    title = f"Precision over recall by class, {_IOU_WORDS.get(iou, f'IoU 0.{iou}')}"
    return _chart(title, lines, x_label="recall", y_limits=_UNIT, x_limits=_UNIT)


def ap_over_iou(runs: Named | Curves) -> Chart | None:
    """Return how AP falls when boxes must fit better."""
    lines = [(name, _curve(run, "iou", ("AP_per_iou",))) for name, run in runs.items()]
    return _chart("AP over the IoU asked for", lines, x_label="IoU", y_limits=from_zero(lines))


def from_zero(lines: Sequence[tuple[str, Points]]) -> tuple[float, float]:
    """Return the range from 0, so that no gain looks bigger than it is, to a little above the highest value."""
    highest = max((y for _, points in lines for _, y in points), default=0.0)
    return 0.0, min(_UNIT[1], max(0.05, highest * 1.15))


def _pulls(run: RunSummary, kind: Literal["ratio", "cosine"]) -> Sequence[tuple[str, Points]]:
    names = dict.fromkeys(name for step in run.steps for name in step.gradients)
    return [
        (name, [(step.step, getattr(step.gradients[name], kind)) for step in run.steps if name in step.gradients])
        for name in names
    ]


def _task_points(run: RunSummary) -> Points:
    own = [(step.step, [value for part, value in step.parts.items() if part.startswith(_TASK)]) for step in run.steps]
    return [(step, sum(values)) for step, values in own if values]


def _looks(run: RunSummary) -> Points:
    values = ((look.epoch, number(look.metrics.get("AP"))) for look in run.evaluations)
    return [(epoch, value) for epoch, value in values if value is not None]


def _curve(run: RunSummary | Json | None, x_key: str, y_path: Sequence[str]) -> Points:
    """Points of curves.json; empty where there is none."""
    y: Any = (run.curves if isinstance(run, RunSummary) else run) or {}
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
