"""Finished runs → what each arm gained, how sure that is, and what it cost.

The rule: an arm helped if the whole 95 % interval of its mean paired gain over seeds lies above 0, it hurt if the whole
interval lies below, and otherwise nothing is shown. Differences of exactly 0, a placebo's, are never above 0.
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
from kdet.evaluate import paired_t_interval, percentile_interval
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


def arm_rows(arms: Mapping[str, Sequence[Finished]], teacher_ap: float | None) -> list[dict[str, Any]]:
    """The `arms` of compare.json.

    Args:
        arms: runs by arm, in the order of seeds; the first arm is what gains are against.
        teacher_ap: on the same images.
    """
    base_name, base = next(iter(arms.items()))
    return [
        {
            "name": name,
            "AP": [run.ap for run in runs],
            **(_NO_GAIN if name == base_name else _gain(runs, base, teacher_ap)),
            "cost": _cost(runs, base),
        }
        for name, runs in arms.items()
    ]


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


_NO_GAIN: dict[str, Any] = dict.fromkeys(("gain", "interval", "image_interval", "gap_closed", "verdict"))


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
    }


def _cost(runs: Sequence[Finished], base: Sequence[Finished]) -> dict[str, float | None]:
    """Means over seeds; `time` and `memory` are multiples of the base's."""
    seconds, seconds_of_base = _mean_cost(runs, "seconds"), _mean_cost(base, "seconds")
    memory, memory_of_base = _mean_cost(runs, "memory_bytes"), _mean_cost(base, "memory_bytes")
    return {
        "seconds": seconds,
        "time": None if seconds is None or not seconds_of_base else seconds / seconds_of_base,
        "memory_bytes": memory,
        "memory": None if memory is None or not memory_of_base else memory / memory_of_base,
    }


def _mean_cost(runs: Sequence[Finished], key: str) -> float | None:
    values = [run.cost[key] for run in runs]
    return None if any(value is None for value in values) else fmean(values)
