"""A comparison as text: what can be shown, said before the first run, and the table after the last."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdet.evaluate import smallest_shown
from kdet.report.comparison import is_corrected, weight_in_words
from kdet.workflows.check.text import duration
from kdet.workflows.compare.training_time import ap_by

_MORE = (3, 5, 10)
"""Numbers of seeds that are named where fewer were asked for."""
_PARTS = (0.25, 0.5, 1, 2, 4, 8, 16)
"""Multiples of `none`'s training time at which the arms' AP is read off."""


def power(num_seeds: int, num_arms: int) -> str:
    """Say which gain these seeds can show, as a multiple of its spread over seeds.

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
    """Return the comparison as text."""
    arms, several = result["arms"], is_corrected(result["arms"])
    width = max(len(arm["name"]) for arm in arms)
    head = f"{'':<{width}}  {'AP':>6}  {'gain':>7}  {'95 % over seeds':>17}  {'95 % over images':>17}"
    lines = [f"{head}  {'step':>6}  {'time':>9}"]
    for arm in arms:
        ap = sum(arm["AP"]) / len(arm["AP"])
        gain = "" if arm["gain"] is None else f"{arm['gain']:+.3f}"
        intervals = [_interval(arm[key]) for key in ("interval", "image_interval")]
        cost = "" if arm["cost"]["time"] is None else f"×{arm['cost']['time']:.2f}"
        time = "" if arm["time"] is None else duration(arm["time"])
        row = f"{arm['name']:<{width}}  {ap:>6.3f}  {gain:>7}  {intervals[0]:>17}  {intervals[1]:>17}"
        lines.append(f"{row}  {cost:>6}  {time:>9}  {_verdict(arm, several=several)}{_published(arm)}".rstrip())
    count = len(result["seeds"])
    known = result["teacher"]["AP"]
    teacher = "" if known is None else f"teacher {known:.3f} AP; "
    lines.append(f"{teacher}{count} seed{'s' * (count > 1)}; AP of the last epoch")
    lines += _voc(result)
    lines += _terms(result)
    lines += _against_longer(result)
    lines += _over_time(result)
    lines += _sources(result)
    return "\n".join([*lines, *result["warnings"], *result["left_out"], *result["notes"]])


def _would_do(seeds: int) -> str:
    return f"{seeds} seeds would do with {smallest_shown(seeds):.2g}"


def _verdict(arm: Mapping[str, Any], *, several: bool) -> str:
    if arm["times"] > 1:
        return f"{arm['verdict']} (a baseline)"
    if arm["verdict"] is None or arm["p"] is None or not several:
        return arm["verdict"] or ""
    return f"{arm['verdict']} (p {arm['p']:.2g}; Holm: {arm['holm']})"


def _published(arm: Mapping[str, Any]) -> str:
    """Show a published number beside our own, whatever its set-up."""
    return "" if arm.get("expected") is None else f"  published {arm['expected']['AP']:.3f}"


def _sources(result: Mapping[str, Any]) -> Iterator[str]:
    """Name the sources of the published numbers, each once."""
    names: dict[str, list[str]] = {}
    for arm in result["arms"]:
        if arm.get("expected") is not None:
            names.setdefault(arm["expected"]["source"], []).append(arm["name"])
    yield from (f"published, {', '.join(of)}: {source}" for source, of in names.items())


def _voc(result: Mapping[str, Any]) -> Iterator[str]:
    """Pascal VOC's own AP, where the data are VOC."""
    for metric, arms in (result.get("breakdown", {}).get("voc") or {}).items():
        yield f"{metric}: " + ", ".join(f"{name} {'–' if ap is None else f'{ap:.3f}'}" for name, ap in arms.items())


def _terms(result: Mapping[str, Any]) -> Iterator[str]:
    """What each arm distilled, and how hard that pulled."""
    for arm in result["arms"]:
        shown = [f"{name}, weight {weight_in_words(term)}{_pull(term)}" for name, term in arm["terms"].items()]
        if shown:
            yield f"{arm['name']}: {'; '.join(shown)}"


def _against_longer(result: Mapping[str, Any]) -> Iterator[str]:
    """Each method against the student alone trained longer."""
    for arm in result["arms"]:
        against = arm.get("against_longer")
        if against is None:
            continue
        same, best = against["same_time"], against["best"]
        shown = [f"{best['arm']}, the best of the longer ones, {_difference(best)}"]
        if same is not None:
            shown.insert(0, f"{same['arm']}, the longest in no more time, {_difference(same)}")
        yield f"{arm['name']} against the student alone: {'; '.join(shown)}"


def _difference(against: Mapping[str, Any]) -> str:
    interval = "" if against["interval"] is None else f" ({_interval(against['interval'])})"
    return f"{against['gain']:+.3f}{interval}, {against['verdict']}"


def _over_time(result: Mapping[str, Any]) -> Iterator[str]:
    """AP that each arm has by certain times: a quarter, a half and the whole of `none`'s training, and multiples."""
    arms = result["arms"]
    whole, last = arms[0]["time"], max((arm["time"] or 0.0 for arm in arms), default=0.0)
    if not whole:
        return
    times = [whole * part for part in _PARTS if part <= 1 or whole * part / 2 < last]
    width = max(len(arm["name"]) for arm in arms)
    yield f"{'AP by training time':<{width}}  " + "  ".join(f"{duration(time):>9}" for time in times)
    for arm in arms:
        aps = [ap_by(result["ap_over_time"][arm["name"]]["mean"], time) for time in times]
        yield f"{arm['name']:<{width}}  " + "  ".join(f"{'–' if ap is None else f'{ap:.3f}':>9}" for ap in aps)
    yield "training time: measured cost of a step times steps, without evaluation; a run that has ended keeps its AP"


def _pull(term: Mapping[str, Any]) -> str:
    return "" if term["pull"] is None else f", pull {term['pull']:.3g}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:+.3f} … {ends[1]:+.3f}"
