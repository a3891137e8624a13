"""A comparison as text: what can be shown, said before the first run, and the table after the last."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdet.evaluate import smallest_shown
from kdet.report.comparison import is_corrected, weight_in_words

_MORE = (3, 5, 10)
"""Numbers of seeds that are named where fewer were asked for."""


def power(num_seeds: int, num_arms: int) -> str:
    """From which gain on these seeds can show one, as a multiple of its spread over seeds.

    Args:
        num_seeds: of each arm.
        num_arms: beside `none`.
    """
    own = smallest_shown(num_seeds)
    if own is None:
        return f"1 seed: no gain can be shown, however large; {_would_do(3)}"
    line = f"{num_seeds} seeds: a gain must exceed {own:.2g} times the spread (s) of the paired differences to be shown"
    if num_arms > 1:
        line += f", {smallest_shown(num_seeds, tests=num_arms):.2g} times as the first of {num_arms} arms after Holm"
    more = next((count for count in _MORE if count >= num_seeds + 2), None)
    return line if more is None else f"{line}; {_would_do(more)}"


def table(result: Mapping[str, Any]) -> str:
    """The comparison as text."""
    arms, several = result["arms"], is_corrected(result["arms"])
    width = max(len(arm["name"]) for arm in arms)
    lines = [f"{'':<{width}}  {'AP':>6}  {'gain':>7}  {'95 % over seeds':>17}  {'95 % over images':>17}  {'step':>6}"]
    for arm in arms:
        ap = sum(arm["AP"]) / len(arm["AP"])
        gain = "" if arm["gain"] is None else f"{arm['gain']:+.3f}"
        intervals = [_interval(arm[key]) for key in ("interval", "image_interval")]
        cost = "" if arm["cost"]["time"] is None else f"×{arm['cost']['time']:.2f}"
        row = f"{arm['name']:<{width}}  {ap:>6.3f}  {gain:>7}  {intervals[0]:>17}  {intervals[1]:>17}  {cost:>6}"
        lines.append(f"{row}  {_verdict(arm, several=several)}".rstrip())
    count = len(result["seeds"])
    known = result["teacher"]["AP"]
    teacher = "" if known is None else f"teacher {known:.3f} AP; "
    lines.append(f"{teacher}{count} seed{'s' * (count > 1)}; AP of the last epoch")
    lines += _terms(result)
    return "\n".join([*lines, *result["warnings"], *result["left_out"], *result["notes"]])


def _would_do(seeds: int) -> str:
    return f"{seeds} seeds would do with {smallest_shown(seeds):.2g}"


def _verdict(arm: Mapping[str, Any], *, several: bool) -> str:
    if arm["verdict"] is None or arm["p"] is None or not several:
        return arm["verdict"] or ""
    return f"{arm['verdict']} (p {arm['p']:.2g}; Holm: {arm['holm']})"


def _terms(result: Mapping[str, Any]) -> Iterator[str]:
    """What each arm distilled, and how hard that pulled."""
    for arm in result["arms"]:
        shown = [f"{name}, weight {weight_in_words(term)}{_pull(term)}" for name, term in arm["terms"].items()]
        if shown:
            yield f"{arm['name']}: {'; '.join(shown)}"


def _pull(term: Mapping[str, Any]) -> str:
    return "" if term["pull"] is None else f", pull {term['pull']:.3g}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:+.3f} … {ends[1]:+.3f}"
