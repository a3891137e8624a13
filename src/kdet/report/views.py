"""RunSummary → the words, tables and charts that a page shows of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from kdet.report import curves
from kdet.report.charts import Bar, Chart, bar_chart
from kdet.report.collect import RunSummary
from kdet.report.curves import number
from kdet.report.heatmaps import Inside, insides_of

AP_NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
VOC_NAMES = ("AP50_VOC2007", "AP50_VOC2010")
_LONGEST_VALUE = 400
_DEEPEST = 8


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of a run, beside its teacher's."""

    name: str
    value: float | None
    teacher: float | None


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """The metrics of one class."""

    name: str
    values: Mapping[str, float | None]
    """Values by the names of `ap_names`."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run as a page shows it."""

    name: str
    description: str
    run: RunSummary
    scores: tuple[Score, ...]
    """Empty before the first evaluation."""
    best: str
    """Sentence on the best epoch; empty where it is unknown."""
    stopped_early: str
    """Why, where the run ended before its last step."""
    classes: tuple[ClassRow, ...]
    training: tuple[Chart, ...]
    """Losses and AP over the run."""
    gradients: tuple[Chart, ...]
    """How its terms act on the student."""
    precision: tuple[Chart, ...]
    insides: tuple[Inside, ...]
    """Feature maps of teacher and student."""
    environment: tuple[tuple[str, str], ...]


def named(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """Return the runs by folder name, or by their whole path where two folders have the same name."""
    names = [run.name for run in runs]
    return {str(run.folder) if names.count(run.name) > 1 else run.name: run for run in runs}


def ap_names(runs: Iterable[RunSummary]) -> tuple[str, ...]:
    """Return the metrics that a page shows: COCO's, and VOC's own where a run was on VOC data."""
    found = [run.metrics or {} for run in runs]
    return (*AP_NAMES, *(name for name in VOC_NAMES if any(name in metrics for metrics in found)))


def view(name: str, run: RunSummary, names: Sequence[str]) -> RunView:
    """Return everything about one run, with the metrics of these names."""
    metrics, teacher = run.metrics or {}, run.teacher or {}
    compared = curves.with_teacher(name, run)
    return RunView(
        name=name,
        description=describe(run),
        run=run,
        scores=tuple(
            Score(name=key, value=number(metrics.get(key)), teacher=number(teacher.get(key)))
            for key in names
            if run.metrics is not None
        ),
        best=_best(metrics),
        stopped_early=_words(metrics.get("stopped_early") or ""),
        classes=_classes(metrics, names),
        training=_known(curves.loss_parts(run), curves.ap_against_teacher(run)),
        gradients=_known(curves.term_shares(run), curves.term_cosines(run), curves.auto_weights(run)),
        precision=_known(
            curves.precision_recall(compared, "50"),
            curves.precision_recall(compared, "75"),
            curves.precision_recall(compared, "all"),
            curves.ap_over_iou(compared),
            curves.precision_by_class(run),
        ),
        insides=insides_of(run),
        environment=environment_rows(run),
    )


def overview(runs: Mapping[str, RunSummary]) -> tuple[Chart, ...]:
    """Return charts that lay several runs side by side."""
    bars = [
        Bar(name=name, value=value, slot=slot)
        for slot, (name, run) in enumerate(runs.items())
        if (value := number((run.metrics or {}).get("AP"))) is not None
    ]
    return _known(
        bar_chart("AP of the last epoch", bars) if bars else None,
        curves.ap_while_training(runs),
        curves.task_loss(runs),
        curves.precision_recall(runs, "50"),
        curves.precision_recall(runs, "75"),
        curves.ap_over_iou(runs),
    )


def describe(run: RunSummary) -> str:
    """Return the student and how it is trained, in one line."""
    student = _mapping(run.recipe.get("student"))
    words = [str(student[key]) for key in ("detector", "backbone") if student.get(key)]
    if student.get("width") not in (None, 1, 1.0):
        words.append(f"width {student['width']}")
    terms: Any = run.recipe.get("distill")
    methods = [
        str(_mapping(term).get("method", "?")) for term in (cast(list[Any], terms) if isinstance(terms, list) else ())
    ]
    trained = f"distilled with {' + '.join(methods)}" if methods else "trained alone"
    return f"{' '.join(words)}, {trained}" if words else ""


def environment_rows(run: RunSummary) -> tuple[tuple[str, str], ...]:
    """Return environment.json as pairs of name and value."""
    return tuple((str(key), _words(value)) for key, value in run.environment.items() if value is not None)


def _known(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)


def _words(value: Any, deep: int = 0) -> str:
    if deep > _DEEPEST:
        text = "…"
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key} {_words(item, deep + 1)}" for key, item in cast(Mapping[str, Any], value).items())
    elif isinstance(value, list):
        text = ", ".join(_words(item, deep + 1) for item in cast(list[Any], value))
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _best(metrics: Mapping[str, Any]) -> str:
    best = _mapping(metrics.get("best"))
    value = number(best.get("AP"))
    return "" if value is None else f"AP {value:.3f} after epoch {best.get('epoch', '?')}"


def _classes(metrics: Mapping[str, Any], names: Sequence[str]) -> tuple[ClassRow, ...]:
    per_class = _mapping(metrics.get("per_class"))
    return tuple(
        ClassRow(name=name, values={key: number(_mapping(values).get(key)) for key in names})
        for name, values in per_class.items()
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """What should be a JSON object, or an empty one."""
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}
