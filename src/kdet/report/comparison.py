"""compare.json and its run folders → the page of a comparison: verdicts in words, gains, and where they came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from kdet.errors import InputError
from kdet.files import parse_json, read_text
from kdet.report import curves
from kdet.report.charts import Bar, Chart, Series, bar_chart, line_chart
from kdet.report.collect import read_run
from kdet.report.curves import number
from kdet.report.gain_charts import GainBar, gain_chart
from kdet.report.page import render
from kdet.report.sights import gallery_of
from kdet.report.training_time import LongerRow, longer_rows, time_chart
from kdet.report.verdict import signed
from kdet.report.views import environment_rows

_TABLES = {
    "classes": ("By class", "Class", "AP, and the difference from the first arm."),
    "voc": (
        "Pascal VOC's own AP",
        "Metric",
        "At IoU 0.5: over eleven recalls as in 2007, over all of them since 2010.",
    ),
    "sizes": ("By size of the object", "Size", "COCO's bounds: small below 32² px of the image, large above 96² px."),
    "ious": ("By the IoU asked for", "IoU", "What gains at high IoU comes from better boxes."),
    "errors": (
        "By kind of error",
        "Error",
        "What each kind costs in AP50 (TIDE, IoU 0.5, background below 0.1): less is better. A detection is counted as "
        "classification (right box, wrong class), localisation (right class, poor box), both, duplicate or background; "
        "missed are objects that nothing found.",
    ),
}
_BESIDE = {
    "helped": "more than the student alone for longer ({})",
    "not shown": "not shown to be more than the student alone for longer ({})",
    "hurt": "less than the student alone for longer ({})",
}


@dataclass(frozen=True, kw_only=True)
class TermView:
    """What an arm distils."""

    name: str
    weight: str
    """The recipe's."""
    weights: Mapping[str, float]
    """What `weight: auto` came to, by level."""
    pull: float | None
    """Gradient at the student's neck as a multiple of the task's."""


@dataclass(frozen=True, kw_only=True)
class ArmView:
    """One row of the table, and what it says in words."""

    name: str
    ap: float
    """Mean over seeds."""
    aps: tuple[float, ...]
    gain: float | None
    interval: tuple[float, float] | None
    image_interval: tuple[float, float] | None
    gap_closed: float | None
    time: float | None
    """Time of a step as a multiple of the first arm's."""
    memory: float | None
    training_seconds: float | None
    """Training time of a run beside the others that ran with it, mean over seeds."""
    verdict: str | None
    p: float | None
    """p value of the paired t test."""
    holm: str | None
    """The verdict after Holm's correction over all arms."""
    terms: tuple[TermView, ...]
    published: float | None
    """AP that somebody published for this arm, and in words where."""
    source: str
    words: str
    baseline: bool
    """The student alone for longer: no method, and not counted as one."""


@dataclass(frozen=True, kw_only=True)
class TableView:
    """One table of where the gain came from."""

    title: str
    label: str
    note: str
    rows: Mapping[str, Sequence[tuple[float | None, float | None]]]
    """Row → one (value, difference from the first arm) per arm."""


def comparison_page(folder: Path) -> str:
    """Return the page of the comparison in a folder.

    Raises:
        InputError: no compare.json there, or not one of `kdet compare`.
    """
    result = _read(folder / "compare.json")
    try:
        arms = _arms(result["arms"])
        several, longer = is_corrected(result["arms"]), longer_rows(result["arms"])
        shown = {name: read_run(folder / runs[0]["folder"]) for name, runs in result["runs"].items()}
        charts = [_gain_chart(arms), time_chart(result.get("ap_over_time", {}))]
        charts += [_ap_chart(arms, result["teacher"]["AP"]), _iou_chart(result["breakdown"], arms)]
        charts += [curves.ap_while_training(shown, f"AP while training, seed {result['seeds'][0]}")]
        return render(
            "comparison.html.j2",
            title="Comparison",
            headline=_headline(arms, longer, several=several),
            arms=arms,
            longer=longer,
            teacher=number(result["teacher"]["AP"]),
            seeds=result["seeds"],
            charts=[chart for chart in charts if chart is not None],
            tables=_tables(result["breakdown"], [arm.name for arm in arms]),
            gallery=gallery_of(shown),
            runs=result["runs"],
            left_out=[*result["left_out"], *result.get("warnings", ())],
            notes=result["notes"],
            several=several,
            recipes={name: run.recipe_text for name, run in shown.items()},
            environment=environment_rows(list(shown.values())[-1]),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{folder / 'compare.json'}: not a result of `kdet compare` ({error!r}); it writes one anew"
        ) from None


def arms_of_comparison(path: Path) -> list[ArmView]:
    """Return the arms of a compare.json.

    Raises:
        InputError: not one of `kdet compare`.
    """
    try:
        return _arms(_read(path)["arms"])
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a result of `kdet compare` ({error!r}); it writes one anew") from None


def is_corrected(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there are several methods to correct for by Holm; the student alone for longer is none.

    Args:
        rows: the arms of a compare.json.
    """
    return sum(row.get("p") is not None and not _baseline(row) for row in rows) > 1


def weight_in_words(term: Mapping[str, Any]) -> str:
    """Return `auto (ratio 3)` or the number, of a term of an arm."""
    return f"auto (ratio {term['ratio']:g})" if term["weight"] == "auto" else f"{term['weight']:g}"


def _read(path: Path) -> Mapping[str, Any]:
    text = read_text(path)
    if text is None:
        raise InputError(f"{path}: cannot be read (no such file); `kdet compare` writes it")
    content = parse_json(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object; `kdet compare` writes it anew")
    return cast(Mapping[str, Any], content)


def _arms(rows: Sequence[Mapping[str, Any]]) -> list[ArmView]:
    return [_arm(row, several=is_corrected(rows)) for row in rows]


def _baseline(row: Mapping[str, Any]) -> bool:
    return row.get("times", 1) > 1


def _arm(row: Mapping[str, Any], *, several: bool) -> ArmView:
    cost = row["cost"]
    return ArmView(
        name=str(row["name"]),
        ap=fmean(row["AP"]),
        aps=tuple(row["AP"]),
        gain=number(row["gain"]),
        interval=_pair(row["interval"]),
        image_interval=_pair(row["image_interval"]),
        gap_closed=number(row["gap_closed"]),
        time=number(cost["time"]),
        memory=number(cost["memory"]),
        training_seconds=number(row.get("training_seconds")),
        verdict=row["verdict"],
        p=number(row.get("p")),
        holm=row.get("holm"),
        terms=tuple(_term(name, term) for name, term in row.get("terms", {}).items()),
        published=number((row.get("expected") or {}).get("AP")),
        source=str((row.get("expected") or {}).get("source", "")),
        words="" if _baseline(row) else _words(row, several=several),
        baseline=_baseline(row),
    )


def _term(name: str, term: Mapping[str, Any]) -> TermView:
    weights = {part.removeprefix(f"{name}/"): float(value) for part, value in term["weights"].items()}
    return TermView(name=name, weight=weight_in_words(term), weights=weights, pull=number(term["pull"]))


def _pair(ends: Any) -> tuple[float, float] | None:
    return None if ends is None else (float(ends[0]), float(ends[1]))


def _words(row: Mapping[str, Any], *, several: bool) -> str:
    """The verdict as a sentence; empty for the arm that the others are compared with."""
    if row["gain"] is None:
        return ""
    verdict = {"helped": "helped", "hurt": "hurt"}.get(row["verdict"], "is not shown to help or to hurt")
    start = f"{row['name']} {verdict}: {signed(row['gain'])} AP"
    if row["interval"] is None:
        return f"{start} on one seed, which proves nothing."
    low, high = row["interval"]
    sure = f"{start} (95 % interval {signed(low)} … {signed(high)}, {len(row['AP'])} seeds)"
    differs = several and row["holm"] != row["verdict"]
    return f"{sure}; after Holm's correction: {row['holm']}." if differs else f"{sure}."


def _headline(arms: Sequence[ArmView], longer: Sequence[LongerRow], *, several: bool) -> str:
    methods = [arm for arm in arms if not arm.baseline]
    helped = [arm for arm in methods if arm.verdict == "helped" and arm.gain is not None]
    if helped:  # before all others those that helped among all arms, too
        best = max(helped, key=lambda arm: (arm.holm == "helped", arm.gain or 0.0))
        line = f"{best.name} helped: {signed(best.gain or 0.0)} AP"
        line = f"{line}, not after Holm's correction" if several and best.holm != "helped" else line
        beside = next((row.best for row in longer if row.name == best.name), None)
        return line if beside is None else f"{line}; {_BESIDE[beside.verdict].format(beside.arm)}"
    hurt = [arm.name for arm in methods if arm.verdict == "hurt"]
    if hurt:
        return f"Nothing is shown to help; {' and '.join(hurt)} hurt"
    return "Nothing is shown to help or to hurt"


def _gain_chart(arms: Sequence[ArmView]) -> Chart:
    bars = [
        GainBar(
            name=arm.name,
            gain=arm.gain,
            verdict=arm.verdict or "",
            slot=slot,
            over_seeds=arm.interval,
            over_images=arm.image_interval,
        )
        for slot, arm in enumerate(arms)
        if arm.gain is not None
    ]
    return gain_chart(f"Gain in AP over {arms[0].name}", bars)


def _ap_chart(arms: Sequence[ArmView], teacher_ap: float | None) -> Chart:
    bars = [Bar(name=arm.name, value=arm.ap, slot=slot) for slot, arm in enumerate(arms)]
    if teacher_ap is not None:
        bars.append(Bar(name="teacher", value=teacher_ap, slot=len(bars)))
    return bar_chart("AP, mean over seeds", bars)


def _iou_chart(breakdown: Mapping[str, Any], arms: Sequence[ArmView]) -> Chart:
    table = breakdown["ious"]
    series = [
        Series(name=arm.name, x=[float(iou) for iou in table], y=[row[arm.name] for row in table.values()], slot=slot)
        for slot, arm in enumerate(arms)
    ]
    highest = max(value for one in series for value in one.y)
    return line_chart("AP over the IoU asked for", series, x_label="IoU", y_limits=(0.0, max(0.05, highest * 1.15)))


def _tables(breakdown: Mapping[str, Any], names: Sequence[str]) -> list[TableView]:
    return [
        TableView(title=title, label=label, note=note, rows={row: _cells(of, names) for row, of in table.items()})
        for key, (title, label, note) in _TABLES.items()
        if (table := breakdown.get(key)) is not None
    ]


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[float | None, float | None]]:
    values = [number(row[name]) for name in names]
    base = values[0]
    unknown = [None] * len(values) if base is None else [None if v is None else v - base for v in values]
    return list(zip(values, [None, *unknown[1:]], strict=True))
