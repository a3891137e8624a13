"""What a demo's numbers say in words, and what one seed cannot say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdet.errors import InputError
from kdet.report.curves import number


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the demo's table."""

    key: str
    label: str
    ap: float
    ap50: float | None
    parameters: float | None
    seconds: float | None
    """Training time."""
    gain: float | None
    """AP over the student alone; None for the teacher and for the student alone."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome in words."""

    headline: str
    sentences: tuple[str, ...]
    gain: float
    gap_closed: float | None
    """Share of the way from the student alone to the teacher; None where the teacher is not better."""


def arms_of(result: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Arm]:
    """Return the rows that a result has numbers for, in the labels' order.

    Raises:
        InputError: no AP of `alone` or `distilled`, without which there is nothing to say.
    """
    rows = {key: result[key] for key in labels if key in result and number(result[key].get("AP")) is not None}
    if missing := [key for key in ("alone", "distilled") if key not in rows]:
        raise InputError(f"the demo's result has no AP of {' and of '.join(missing)}")
    alone = float(rows["alone"]["AP"])
    return {
        key: Arm(
            key=key,
            label=labels[key],
            ap=float(row["AP"]),
            ap50=number(row.get("AP50")),
            parameters=number(row.get("parameters")),
            seconds=number(row.get("train_seconds")),
            gain=None if key in ("teacher", "alone") else float(row["AP"]) - alone,
        )
        for key, row in rows.items()
    }


def verdict_of(arms: Mapping[str, Arm], seed: Any) -> Verdict:
    """Whether distillation helped here, against what, and how little one seed proves."""
    alone, distilled, teacher = arms["alone"], arms["distilled"], arms.get("teacher")
    gain = distilled.ap - alone.ap
    gap_closed = None
    sentences = [f"Alone the student reaches {alone.ap:.3f} AP, distilled {distilled.ap:.3f} ({signed(gain)})."]
    if teacher is not None and teacher.ap > alone.ap:
        gap_closed = gain / (teacher.ap - alone.ap)
        if gain > 0:
            sentences.append(f"That is {gap_closed:.0%} of the way to its teacher's {teacher.ap:.3f}.")
    elif teacher is not None:
        sentences.append(
            f"The teacher ({teacher.ap:.3f}) is no better than the student alone: little to learn from it."
        )
    others = [arm for key, arm in arms.items() if key not in ("teacher", "alone", "distilled")]
    if others:
        sentences.append(f"For comparison: {'; '.join(f'{arm.label}: {arm.ap:.3f}' for arm in others)}.")
    if better := [arm.label for arm in others if arm.ap >= distilled.ap]:
        sentences.append(f"Here {' and '.join(better)} did at least as well as distillation.")
    sentences.append("Students start from random weights and stop early, so a gain is one in speed of learning.")
    sentences.append(f"This is one seed ({seed}): it shows a difference, it does not prove one.")
    return Verdict(headline=_headline(gain), sentences=tuple(sentences), gain=gain, gap_closed=gap_closed)


def signed(value: float) -> str:
    """Format three decimals with a sign, the minus as wide as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def _headline(gain: float) -> str:
    if round(gain, 3) == 0:
        return "Distillation made no difference on this seed"
    return f"Distillation {'raised' if gain > 0 else 'lowered'} the student by {abs(gain):.3f} AP on this seed"
