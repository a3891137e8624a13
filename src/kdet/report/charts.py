"""Small line and bar charts as inline SVG that takes its colours from the page, so that light and dark both fit.

Nothing is clipped: clipping needs ids, which would clash between the charts of a page, and axes hold all points.
The only file that draws with matplotlib. Legends are left to the page, which can wrap them on a phone.
"""

import io
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

NUM_SLOTS = 7
"""Colours of the page's palette, `--s0` … `--s6`; later series repeat them with another dash."""
_MOST_POINTS = 300
_INK, _GRID = "#000001", "#000002"
_SLOTS = tuple(f"#0000{16 + slot:02x}" for slot in range(NUM_SLOTS))
_PAGE_COLOURS = {_INK: "currentColor", _GRID: "var(--grid)"} | {c: f"var(--s{i})" for i, c in enumerate(_SLOTS)}
_DASHES = ((), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2))
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "kdet",  # the same bytes each time
    "text.parse_math": False,  # a class may be called "$"
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    slot: int
    """Colour and dash: slots beyond the palette repeat its colours with another dash."""
    faint: bool = False
    """Thin, and left out of the legend: one of several whose mean is another line of the same slot."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a chart, from 0 to `value`."""

    name: str
    value: float
    slot: int = 0
    interval: tuple[float, float] | None = None
    """Low and high end of its confidence interval."""


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """A name, and how its line looks."""

    name: str
    colour: int
    """Number of the page's colour."""
    dash: str
    """SVG stroke-dasharray; empty for a whole line."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """An SVG element for a page, with its legend."""

    title: str
    svg: str
    """Trusted markup: every name in it is escaped."""
    legend: tuple[LegendEntry, ...] = ()
    note: str = ""
    """One sentence on how to read it."""


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_limits: tuple[float, float] | None = None,
    x_limits: tuple[float, float] | None = None,
    whole_x: bool = False,
    mark_ends: bool = False,
    note: str = "",
) -> Chart:
    """Draw lines over a common x axis; long ones are thinned by averaging, wide positive ones get a logarithmic y."""
    thinned = [_thin(one) for one in series]
    with _settings():
        figure = Figure(figsize=(3.9, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for one in thinned:
            marked = len(one.x) == 1 or (mark_ends and not one.faint)
            style: dict[str, Any] = {"marker": "o" if marked else None, "markersize": 2 if one.faint else 4}
            style |= {"linewidth": 0.7, "alpha": 0.5} if one.faint else {"linewidth": 1.8}
            (line,) = axes.plot(one.x, one.y, color=_colour(one.slot), markevery=[-1], clip_on=False, **style)
            if dash := _dash(one.slot):
                line.set_dashes(dash)
        axes.set_xlabel(x_label)
        axes.grid(axis="y", linewidth=0.7, clip_on=False)
        if whole_x:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        _scale_y(axes, [value for one in thinned for value in one.y], y_limits)
        if x_limits is not None:
            axes.set_xlim(*x_limits)
        legend = tuple(_legend(one.name, one.slot) for one in series if not one.faint)
        return Chart(title=title, svg=_svg(figure, title), legend=legend, note=note)


def bar_chart(title: str, bars: Sequence[Bar], *, digits: int = 3) -> Chart:
    """Draw horizontal bars with the name above and the number behind each; intervals as lines."""
    ends = [end for bar in bars for end in (bar.value, *(bar.interval or ()))]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = (high - low) or 1.0
    with _settings():
        figure = Figure(figsize=(3.9, 0.55 * len(bars) + 0.1), layout="constrained")
        axes = figure.add_subplot()
        axes.axis("off")
        for row, bar in enumerate(bars):
            axes.barh(row, bar.value, height=0.42, color=_colour(bar.slot), clip_on=False)
            axes.text(low, row - 0.32, _printable(bar.name), va="bottom", ha="left")
            if bar.interval is not None:
                axes.plot(bar.interval, (row, row), color=_INK, linewidth=1.4, marker="|", markersize=7, clip_on=False)
            end = max(bar.value, 0.0, *(bar.interval or ()))
            axes.text(end + span * 0.02, row, f"{bar.value:.{digits}f}", va="center", ha="left")
        axes.set_xlim(low, high + span * 0.16)
        axes.set_ylim(len(bars) - 0.6, -0.85)
        return Chart(title=title, svg=_svg(figure, title))


def _scale_y(axes: Axes, values: Sequence[float], limits: tuple[float, float] | None) -> None:
    finite = [value for value in values if isfinite(value)]
    if limits is not None:
        axes.set_ylim(*limits)
    elif finite and min(finite) > 0 and max(finite) > 20 * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def _thin(series: Series) -> Series:
    """Means of equally long stretches, where there are more points than pixels."""
    size = -(-len(series.x) // _MOST_POINTS)
    if size <= 1:
        return series
    stretches = range(0, len(series.x), size)
    means = [[_mean(values[at : at + size]) for at in stretches] for values in (series.x, series.y)]
    return replace(series, x=means[0], y=means[1])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _colour(slot: int) -> str:
    return _SLOTS[slot % NUM_SLOTS]


def _dash(slot: int) -> tuple[float, ...]:
    # Neighbouring colours differ in dash too, so that nobody has to tell them apart by colour alone.
    return _DASHES[slot % len(_DASHES)]


def _legend(name: str, slot: int) -> LegendEntry:
    return LegendEntry(name=name, colour=slot % NUM_SLOTS, dash=" ".join(f"{part:g}" for part in _dash(slot)))


def _tick(value: float, position: int | None = None) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _printable(text: str) -> str:
    """XML has no place for control characters."""
    return "".join(character if character.isprintable() else "·" for character in text)[:60]


def _settings() -> AbstractContextManager[None]:
    settings: dict[Any, Any] = dict(_SETTINGS)
    return mpl.rc_context(settings)


def _svg(figure: Figure, title: str) -> str:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The browser draws the text with fonts of its own; that DejaVu lacks a glyph does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(attributes)
        if "style" in attributes:
            element.set("style", _page_style(attributes["style"]))
    _without_ids(root)
    _as_picture(root, title)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _page_style(style: str) -> str:
    """Colours and font of the page instead of matplotlib's."""
    declarations = [part.partition(":") for part in style.split(";") if part.strip()]
    kept = [(name.strip(), value.strip()) for name, _, value in declarations if name.strip() != "font-family"]
    return "; ".join(f"{name}: {_PAGE_COLOURS.get(value, value)}" for name, value in kept)


def _without_ids(root: ElementTree.Element) -> None:
    """Put marks where they are referred to, and drop all ids: the page's other charts have the same ones."""
    marks = {element.get("id"): element for element in root.iter("path") if element.get("id")}
    for use in list(root.iter("use")):
        mark = marks[use.attrib.pop("href")[1:]]
        place = f"translate({use.attrib.pop('x')} {use.attrib.pop('y')})"
        style = f"{use.get('style', '')}; {mark.get('style', '')}"
        use.tag = "path"
        use.attrib.update({"d": mark.get("d", ""), "transform": place, "style": style})
    for parent in list(root.iter()):
        parent.attrib.pop("id", None)
        for definitions in parent.findall("defs"):
            parent.remove(definitions)


def _as_picture(root: ElementTree.Element, title: str) -> None:
    """One picture with a name for a screen reader, as wide as its place."""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": _printable(title), "stroke-linejoin": "round"})
