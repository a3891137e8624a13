"""Finished runs → what each arm gained, how sure that is, and what it cost.

The rule: an arm helped if the whole 95 % interval of its mean paired gain over seeds lies above 0, it hurt if the whole
interval lies below, and otherwise nothing is shown. Differences of exactly 0, a placebo's, are never above 0.

Chance alone makes one arm in 20 help or hurt, so that among many some will. `holm` is the verdict after Holm's
correction over all arms: then it is 1 in 20 that any of them does by chance.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdet.errors import InputError
from kdet.evaluate import LEVEL, holm, paired_t_interval, paired_t_p, percentile_interval
from kdet.study.rounds import cost_of
from kdet.train.run_folder import CURVES, METRICS

Verdict = Literal["helped", "not shown", "hurt"]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a finished run has to say."""

    folder: Path
    metrics: Mapping[str, Any]
    """Of the last epoch."""
    curves: Mapping[str, Any]
    cost: Mapping[str, Any]
    resampled: NDArray[np.float64]
    """AP on validation images drawn anew; the same draws for all runs."""

    @property
    def ap(self) -> float:
        """Of the last epoch."""
        return float(self.metrics["AP"])


def finished(folder: Path, resampled: NDArray[np.float64]) -> Finished:
    """A run by its files.

    Raises:
        InputError: one of them cannot be read.
    """
    metrics, curves = (read_json(folder / name) for name in (METRICS, CURVES))
    return Finished(folder=folder, metrics=metrics, curves=curves, cost=cost_of(folder), resampled=resampled)


def arm_rows(
    arms: Mapping[str, Sequence[Finished]], teacher_ap: float | None, steps: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The `arms` of compare.json.

    Args:
        arms: runs by arm, in the order of seeds; the first arm is what gains are against.
        teacher_ap: on the same images.
        steps: what a step of each arm costs, as `kdet.study.arm_costs` writes it.
    """
    base_name, base = next(iter(arms.items()))
    rows = [
        {
            "name": name,
            "AP": [run.ap for run in runs],
            **(_NO_GAIN if name == base_name else _gain(runs, base, teacher_ap)),
            "cost": _cost(steps or {}, name, base_name),
            "training_seconds": fmean(run.cost["seconds"] for run in runs),
        }
        for name, runs in arms.items()
    ]
    _correct(rows)
    return rows


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """The verdicts that hold for all arms together."""
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["holm"] = row["verdict"] if p < 1 - LEVEL else "not shown"


def verdict_of(interval: Interval | None) -> Verdict:
    """The rule."""
    if interval is None:
        return "not shown"
    low, high = interval
    return "helped" if low > 0 else "hurt" if high < 0 else "not shown"


def read_json(path: Path) -> Any:
    """A file of a finished run.

    Raises:
        InputError: it is not there, or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read; remove {path.parent}, and the same command makes it anew") from None


_NO_GAIN: dict[str, Any] = dict.fromkeys(("gain", "interval", "image_interval", "gap_closed", "verdict", "p", "holm"))


def _gain(runs: Sequence[Finished], base: Sequence[Finished], teacher_ap: float | None) -> dict[str, Any]:
    pairs = list(zip(runs, base, strict=True))
    gains = [run.ap - other.ap for run, other in pairs]
    interval = paired_t_interval(gains)
    over_images = percentile_interval(np.mean([run.resampled - other.resampled for run, other in pairs], axis=0))
    gap = None if teacher_ap is None else teacher_ap - fmean(run.ap for run in base)
    return {
        "gain": fmean(gains),
        "interval": None if interval is None else list(interval),
        "image_interval": None if over_images is None else list(over_images),
        "gap_closed": fmean(gains) / gap if gap is not None and gap > 0 else None,
        "verdict": verdict_of(interval),
        "p": paired_t_p(gains),
        "holm": "not shown",
    }


def _cost(steps: Mapping[str, Any], name: str, base: str) -> dict[str, float | None]:
    """Of a step; `time` and `memory` are multiples of the base's. None where it was not measured."""
    own, other = steps.get(name), steps.get(base)
    if own is None or other is None:
        return dict.fromkeys(("time", "memory", "step_seconds", "step_bytes"))
    return {
        "time": own["seconds"] / other["seconds"],
        "memory": own["memory_bytes"] / other["memory_bytes"],
        "step_seconds": own["seconds"],
        "step_bytes": own["memory_bytes"],
    }
