"""Finished runs → what each arm gained, how sure that is, and what it cost.

The rule: an arm helped if the whole 95 % interval of its mean paired gain over seeds lies above 0, it hurt if the whole
interval lies below, and otherwise nothing is shown. Differences of exactly 0, a placebo's, are never above 0.

The student alone for longer (`--longer`) is a baseline and no method: it has a gain like any other, and no part in
Holm's family. Each method is compared with two of these baselines besides: the longest that costs no more training
time, and the best one. Which is best is seen on the same runs, so that this comparison is harder by a little.

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
from kdet.report.collect import looks_of
from kdet.train.state.run_folder import CURVES, METRICS
from kdet.workflows.compare.rounds import cost_of

Verdict = Literal["helped", "not shown", "hurt"]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a finished run has to say."""

    folder: Path
    metrics: Mapping[str, Any]
    """Metrics of the last epoch."""
    curves: Mapping[str, Any]
    cost: Mapping[str, Any]
    resampled: NDArray[np.float64]
    """AP on validation images drawn anew; the same draws for all runs."""
    looks: tuple[tuple[int, float], ...] = ()
    """Step and AP of each look, in order."""

    @property
    def ap(self) -> float:
        """AP of the last epoch."""
        return float(self.metrics["AP"])

    @property
    def steps(self) -> int:
        """Number of steps that it took."""
        return self.looks[-1][0] if self.looks else 0


def finished(folder: Path, resampled: NDArray[np.float64]) -> Finished:
    """Read a run from its files.

    Raises:
        InputError: one of them cannot be read.
    """
    metrics, curves = (read_json(folder / name) for name in (METRICS, CURVES))
    looks = tuple((look.step, float(look.metrics["AP"])) for look in looks_of(folder))
    cost = cost_of(folder)
    return Finished(folder=folder, metrics=metrics, curves=curves, cost=cost, resampled=resampled, looks=looks)


def arm_rows(
    arms: Mapping[str, Sequence[Finished]],
    teacher_ap: float | None,
    steps: Mapping[str, Any] | None = None,
    *,
    times: Mapping[str, int] | None = None,
    accumulate: int = 1,
) -> list[dict[str, Any]]:
    """Return the `arms` of compare.json.

    Args:
        arms: runs by arm, in the order of seeds; the first arm is what gains are against.
        teacher_ap: on the same images.
        steps: what a step of each arm costs, as `kdet.workflows.compare.arm_costs` writes it.
        times: of the arms that are the student alone for longer, how many times; their steps cost the first arm's.
        accumulate: batches per optimizer step; `steps` has the cost of a batch.
    """
    base_name, base = next(iter(arms.items()))
    longer = times or {}
    costs = {name: (steps or {}).get(base_name if name in longer else name) for name in arms}
    rows = [
        {
            "name": name,
            "AP": [run.ap for run in runs],
            **(_NO_GAIN if name == base_name else _gain(runs, base, teacher_ap)),
            "cost": _cost(costs[name], costs[base_name]),
            "training_seconds": fmean(run.cost["seconds"] for run in runs),
            "times": longer.get(name, 1),
            "steps": [run.steps for run in runs],
            "time": _time(costs[name], runs, accumulate),
        }
        for name, runs in arms.items()
    ]
    _correct(rows)
    _against_longer(rows, arms)
    return rows


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """The verdicts that hold for all arms together."""
    tested = [row for row in rows if row["p"] is not None and row["times"] == 1]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["holm"] = row["verdict"] if p < 1 - LEVEL else "not shown"


def verdict_of(interval: Interval | None) -> Verdict:
    """Judge a gain by its interval: helped or hurt where 0 lies outside."""
    if interval is None:
        return "not shown"
    low, high = interval
    return "helped" if low > 0 else "hurt" if high < 0 else "not shown"


def read_json(path: Path) -> Any:
    """Read a file of a finished run.

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


def _against_longer(rows: Sequence[dict[str, Any]], arms: Mapping[str, Sequence[Finished]]) -> None:
    """Each method against the student alone trained longer; nothing is added where it was not."""
    base, *others = rows
    longer = [row for row in others if row["times"] > 1]
    if not longer:
        return
    best = max(longer, key=lambda row: fmean(row["AP"]))
    for row in others:
        if row["times"] > 1:
            continue
        cheaper = [one for one in longer if row["time"] is not None and one["time"] <= row["time"]]
        as_long = max(cheaper, key=lambda one: one["time"], default=base)
        known = row["time"] is not None and base["time"] is not None
        row["against_longer"] = {
            "same_time": _against(arms[row["name"]], as_long, arms) if known else None,
            "best": _against(arms[row["name"]], best, arms),
        }


def _against(runs: Sequence[Finished], other: Mapping[str, Any], arms: Mapping[str, Sequence[Finished]]) -> Any:
    gains = [run.ap - theirs.ap for run, theirs in zip(runs, arms[other["name"]], strict=True)]
    interval = paired_t_interval(gains)
    return {
        "arm": other["name"],
        "time": other["time"],
        "gain": fmean(gains),
        "interval": None if interval is None else list(interval),
        "p": paired_t_p(gains),
        "verdict": verdict_of(interval),
    }


def _time(cost: Mapping[str, Any] | None, runs: Sequence[Finished], accumulate: int) -> float | None:
    """Seconds of training at the measured cost of a step, mean over seeds: not those of a machine with other work."""
    return None if cost is None else fmean(run.steps for run in runs) * accumulate * cost["seconds"]


def _cost(own: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Cost of a step; `time` and `memory` are multiples of the other's. None where it was not measured."""
    if own is None or other is None:
        return dict.fromkeys(("time", "memory", "step_seconds", "step_bytes"))
    return {
        "time": own["seconds"] / other["seconds"],
        "memory": own["memory_bytes"] / other["memory_bytes"],
        "step_seconds": own["seconds"],
        "step_bytes": own["memory_bytes"],
    }
