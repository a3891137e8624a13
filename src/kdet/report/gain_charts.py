"""Gains as bars left and right of zero, each with its two intervals: what it owes to the seeds, and to the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from kdet.report.charts import NUM_SLOTS, Chart
from kdet.report.verdict import signed

_WIDTH, _EDGE, _ROW = 400.0, 10.0, 54.0
_LONGEST_NAME = 28
_NOTE = "Bar: mean over seeds. Line through it: 95 % interval over seeds. Dashed line below: 95 % interval over images."


@dataclass(frozen=True, kw_only=True)
class GainBar:
    """One arm."""

    name: str
    gain: float
    verdict: str
    slot: int
    """Colour of the page's palette."""
    over_seeds: tuple[float, float] | None
    over_images: tuple[float, float] | None


def gain_chart(title: str, bars: Sequence[GainBar]) -> Chart:
    """Chart every arm against the first one; the verdict stands in words beside the number."""
    ends = [end for bar in bars for end in (0.0, bar.gain, *(bar.over_seeds or ()), *(bar.over_images or ()))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def place(value: float) -> float:
        return _EDGE + (value - low) / span * (_WIDTH - 2 * _EDGE)

    height = _ROW * len(bars) + 18
    picture = Element("svg", {"viewBox": f"0 0 {_WIDTH:g} {height:g}", "role": "img", "aria-label": title})
    _text(picture, place(0), height - 3, "0", "middle")
    for row, bar in enumerate(bars):
        _line(picture, place(0), row * _ROW + 17, place(0), row * _ROW + 50, "stroke-width: 1; opacity: .55")
        _draw(picture, bar, [place(value) for value in (0.0, bar.gain)], row * _ROW)
        for ends_of, below, style in ((bar.over_seeds, 27, "1.7"), (bar.over_images, 42, "1.2; stroke-dasharray: 4 2")):
            if ends_of is not None:
                _whisker(picture, place(ends_of[0]), place(ends_of[1]), row * _ROW + below, f"stroke-width: {style}")
    return Chart(title=title, svg=tostring(picture, encoding="unicode", short_empty_elements=False), note=_NOTE)


def _draw(picture: Element, bar: GainBar, ends: Sequence[float], top: float) -> None:
    _text(picture, _EDGE, top + 13, _short(bar.name), "start")
    _text(picture, _WIDTH - _EDGE, top + 13, f"{bar.verdict}  {signed(bar.gain)}", "end")
    box = {"x": min(ends), "y": top + 19, "width": max(1.0, abs(ends[1] - ends[0])), "height": 16}
    colour = {"style": f"fill: var(--s{bar.slot % NUM_SLOTS})"}
    SubElement(picture, "rect", {name: f"{value:.1f}" for name, value in box.items()} | colour)


def _short(name: str) -> str:
    """Verdict and number stand in the same line; the table has the whole name."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _whisker(picture: Element, left: float, right: float, y: float, style: str) -> None:
    _line(picture, left, y, right, y, style)
    for x in (left, right):
        _line(picture, x, y - 4, x, y + 4, style.partition(";")[0])


def _line(picture: Element, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    SubElement(picture, "line", ends | {"style": f"stroke: currentColor; {style}"})


def _text(picture: Element, x: float, y: float, words: str, anchor: str) -> None:
    style = f"fill: currentColor; font-size: 14px; text-anchor: {anchor}"
    SubElement(picture, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "style": style}).text = words
