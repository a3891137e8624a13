"""One self-contained HTML file about runs, or about a demo; the only file that knows jinja2."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdet.errors import InputError
from kdet.report import curves
from kdet.report.charts import Bar, Chart, bar_chart
from kdet.report.collect import RunSummary, read_run
from kdet.report.curves import number
from kdet.report.embed import data_uri
from kdet.report.heatmaps import ACTIVATION, SIMILARITY, scale_picture
from kdet.report.latency import latency_chart
from kdet.report.sights import gallery_of
from kdet.report.verdict import Arm, arms_of, signed, verdict_of
from kdet.report.views import ap_names, environment_rows, named, overview, view


def run_page(folders: Sequence[Path], *, speed: Path | None = None) -> str:
    """Return the page of one run or of several.

    Args:
        folders: the runs.
        speed: what `kdet speed` wrote of them and of others; None = no picture of it.

    Raises:
        InputError: no folder given, one given twice, or one that is not a run; or another file than that of a speed.
    """
    if not folders:
        raise InputError("no run folder given; `kdet report RUN…` takes at least one")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run folder is given twice; name each run once")
    runs = named([read_run(folder) for folder in folders])
    names = ap_names(runs.values())
    views = [view(name, run, names) for name, run in runs.items()]
    title = views[0].name if len(views) == 1 else f"{len(views)} runs"
    charts = overview(runs) if len(views) > 1 else ()
    return render(
        "run.html.j2",
        title=title,
        views=views,
        overview=charts,
        speed=None if speed is None else latency_chart(speed),
        gallery=gallery_of(runs),
        scales={name: scale_picture(name) for name in (ACTIVATION, SIMILARITY)},
        ap_names=names,
    )


def demo_page(
    result: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    pictures: Sequence[Path] = (),
    runs: Mapping[str, Path] | None = None,
) -> str:
    """Return the page of a demo.

    Args:
        result: arm → AP, AP50, parameters, train_seconds; besides `seed` and `seconds` (of the whole).
        labels: arm → its name on the page, in the order of the rows; `alone` and `distilled` must be among them.
        pictures: PNG files, each one image as seen by the truth and by the models.
        runs: arm → run folder, for the curves and the environment.

    Raises:
        InputError: the result lacks the two arms, or a file cannot be read.
    """
    arms = arms_of(result, labels)
    summaries = {key: read_run(folder) for key, folder in (runs or {}).items() if key in labels}
    shown = {labels[key]: summaries[key] for key in labels if key in summaries}
    environment = environment_rows(summaries["distilled"]) if "distilled" in summaries else ()
    return render(
        "demo.html.j2",
        title="Distillation demo",
        arms=arms,
        verdict=verdict_of(arms, result.get("seed", "?")),
        charts=_demo_charts(arms, shown, summaries.get("distilled")),
        pictures=[data_uri(path) for path in pictures],
        seed=result.get("seed"),
        seconds=number(result.get("seconds")),
        environment=[(name, value) for name, value in environment if name not in ("command", "seed")],
    )


def write_page(path: Path, page: str) -> None:
    """Write a page atomically: a reader sees the old one or the new one.

    Raises:
        InputError: the place cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # File names may hold bytes that are no UTF-8; they must not stop a report.
        with new.open("wb") as handle:
            handle.write(page.encode("utf-8", "replace"))
            handle.flush()
            os.fsync(handle.fileno())
        new.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another file with --out") from None


def _demo_charts(arms: Mapping[str, Arm], shown: Mapping[str, RunSummary], distilled: RunSummary | None) -> list[Chart]:
    bars = [Bar(name=arm.label, value=arm.ap, slot=slot) for slot, arm in enumerate(arms.values())]
    charts = [
        bar_chart("AP of each arm, last epoch", bars),
        curves.ap_while_training(shown),
        curves.precision_recall(shown, "50"),
        curves.task_loss(shown),
        None if distilled is None else curves.loss_parts(distilled, "Distilled student: parts of the loss"),
    ]
    return [chart for chart in charts if chart is not None]


def render(template: str, **content: Any) -> str:
    """Return a page from one of the templates; every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(three=_three, signed=signed, duration=_duration, millions=_millions)
    return environment.get_template(template).render(**content)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _millions(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.2f} M"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
