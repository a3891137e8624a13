"""kdet compare: paired runs of several arms, and whether the difference is more than chance."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from kdet.data import DetectionIndex
from kdet.errors import InputError
from kdet.evaluate import NUM_DRAWS, ImagePredictions, draws, match, read_predictions, resampled_ap
from kdet.report import comparison_page, write_page
from kdet.train import Recipe, open_data
from kdet.train.state.run_folder import PREDICTIONS, TEACHER, write_json
from kdet.workflows.budget import seconds_of
from kdet.workflows.compare.arm_costs import STEPS, covers, measure_arms, measured
from kdet.workflows.compare.arms import NONE, Arm, arms_of, require_buildable
from kdet.workflows.compare.breakdown import breakdown, errors_of
from kdet.workflows.compare.early_look import fell_behind
from kdet.workflows.compare.gain import Finished, arm_rows, finished, read_json
from kdet.workflows.compare.gradients import straw_men, terms_of
from kdet.workflows.compare.rounds import Planned, Pool, plan, run_rounds
from kdet.workflows.compare.text import power, table
from kdet.workflows.compare.training_time import ap_over_time
from kdet.workflows.compare.workers import Workers
from kdet.workflows.seen import flattered

__all__ = ["PAGE", "RESULT", "compare", "summary", "table"]

RESULT = "compare.json"
PAGE = "index.html"

Rounds = Sequence[Sequence[Planned]]
Predictions = list[ImagePredictions]


def compare(
    recipe: Recipe,
    names: Sequence[str],
    *,
    num_seeds: int,
    out: Path,
    budget: str | None = None,
    pool: Pool | None = None,
    fair_start: bool = False,
    longer: Sequence[int] = (),
) -> dict[str, Any]:
    """Make the runs that are not there yet, compare what is there, and write compare.json and the page.

    Args:
        recipe: with a teacher; its seed is the first one.
        names: as in `arms_of`.
        num_seeds: runs of each arm.
        out: folder; the same call with the same folder goes on where an earlier one ended.
        budget: time after which no round is begun, such as 2h.
        pool: where the runs are made; None = a process each, beside each other where the machine allows it.
        fair_start: let `none` start from the teacher's weights too, where the recipe's student inherits them.
        longer: further arms, the student alone for so many times the steps.

    Returns:
        The content of compare.json: numbers of all complete rounds (`arms`, `teacher`), what was left out, and seconds.

    Raises:
        InputError: wrong input, or a folder with other runs.
        WorkError: a run failed.
    """
    started = time.monotonic()
    if num_seeds < 1:
        raise InputError(f"--seeds {num_seeds}: expected at least 1")
    seconds = None if budget is None else seconds_of(budget)
    arms = arms_of(recipe, names, longer)
    short = [arm for arm in arms if arm.times == 1]  # a longer run's step is that of a shorter one
    rounds = plan(recipe, arms, num_seeds, out, fair_start=fair_start)
    require_buildable(recipe, short, fair_start=fair_start)
    print(power(num_seeds, len(short) - 1), file=sys.stderr, flush=True)
    with nullcontext(pool) if pool is not None else Workers() as own:
        if not covers(measured(out / STEPS), short):
            print("measuring a step of each arm, in turns", file=sys.stderr, flush=True)
            own.submit(partial(measure_arms, arms=short, fair_start=fair_start), recipe, out / STEPS).result()
        complete = run_rounds(rounds, own, budget=seconds)
    result = summary(recipe, rounds[:complete], measured(out / STEPS), fair_start=fair_start)
    result |= {"left_out": _left_out(rounds[complete:], budget), "seconds": round(time.monotonic() - started, 1)}
    write_json(out / RESULT, result)
    write_page(out / PAGE, comparison_page(out))
    return result


def summary(recipe: Recipe, rounds: Rounds, steps: Mapping[str, Any], *, fair_start: bool = False) -> dict[str, Any]:
    """Return all numbers of complete rounds; `arms` and `teacher` are what scripts read.

    Args:
        recipe: of the comparison.
        rounds: that are complete.
        steps: what `measure_arms` wrote.
        fair_start: whether `none` started from the teacher's weights too.
    """
    print("drawing the validation images anew, for the intervals", file=sys.stderr, flush=True)
    val = open_data(recipe).val
    truth = val.index
    weights = draws(len(truth))
    runs: dict[str, list[Finished]] = {}
    seen: dict[str, list[Predictions]] = {}
    for run in (run for of_seed in rounds for run in of_seed):
        predictions = read_predictions(run.folder / PREDICTIONS)[0]
        seen.setdefault(run.arm.name, []).append(predictions)
        resampled = resampled_ap(match(truth, predictions), weights)
        runs.setdefault(run.arm.name, []).append(finished(run.folder, resampled))
    arms = [run.arm for run in rounds[0]]
    teacher, notes = _teacher(runs)
    errors, missing = errors_of(truth, seen)
    parts = breakdown(runs) | {"errors": errors}
    times = {arm.name: arm.times for arm in arms if arm.times > 1}
    rows = arm_rows(runs, teacher["AP"], steps["arms"], times=times, accumulate=recipe.train.accumulate)
    terms = {arm.name: terms_of(recipe, arm, [run.folder for run in runs[arm.name]]) for arm in arms}
    for row in rows:
        row["terms"] = terms[row["name"]]
        published = recipe.expected.get(row["name"])
        row["expected"] = None if published is None else published.model_dump()
    return {
        "arms": rows,
        "teacher": teacher,
        "steps": steps,
        "fair_start": fair_start,
        "seeds": [of_seed[0].seed for of_seed in rounds],
        "runs": {name: [_run_row(run, rounds[0][0].folder.parents[1]) for run in of] for name, of in runs.items()},
        "ap_over_time": ap_over_time(runs, rows),
        "breakdown": parts,
        "warnings": [*flattered(recipe, val), *straw_men(terms), *_behind(rounds)],
        "notes": [
            *notes,
            *_notes(recipe, arms, truth, fair_start=fair_start),
            *_ends(recipe, runs),
            power(len(rounds), len(arms) - len(times) - 1),
            *_unmeasured(steps),
            *([missing] if missing else []),
        ],
    }


def _behind(rounds: Rounds) -> list[str]:
    runs = [run for of_seed in rounds for run in of_seed if run.alone]
    return [f"{run.name}: {line}" for run in runs if (line := fell_behind(run.folder, run.alone))]


def _run_row(run: Finished, out: Path) -> dict[str, Any]:
    """One run, with its best epoch apart from the last, which is what is compared."""
    row = {"folder": str(run.folder.relative_to(out)), "AP": run.ap, "best": run.metrics["best"]}
    row |= {"steps": run.steps, "stopped_early": run.metrics.get("stopped_early")}
    return row | {"seconds": run.cost["seconds"], "memory_bytes": run.cost["memory_bytes"]}


def _teacher(runs: Mapping[str, Sequence[Finished]]) -> tuple[dict[str, Any], list[str]]:
    """Its metrics on the same images, and a warning if it was not the same teacher everywhere."""
    folders = [run.folder for name, of in runs.items() if name != NONE for run in of]
    found = [(folder, read_json(folder / TEACHER)) for folder in folders if (folder / TEACHER).exists()]
    if not found:
        return {"AP": None}, ["the teacher gives features alone, so it has no AP"]
    folder, metrics = found[0]
    others = [other for other, theirs in found if theirs["AP"] != metrics["AP"]]
    note = f"the teacher of {others[0]} is not that of {folder}: do not trust this comparison" if others else None
    return metrics, [note] if note else []


def _notes(recipe: Recipe, arms: Sequence[Arm], truth: DetectionIndex, *, fair_start: bool) -> list[str]:
    notes: list[str] = []
    if recipe.student.inherit:
        start = f"`inherit: {recipe.student.inherit}`"
        notes.append(
            f"{start}: every arm starts from the teacher's weights, `none` too (--fair-start)"
            if fair_start
            else f"{start} is part of every arm with a teacher, and of its gain; `none` starts without it unless asked "
            "to by --fair-start"
        )
    if placebos := [arm.name for arm in arms if arm.placebo]:
        notes.append(f"placebo, meant to do nothing: {', '.join(placebos)}; distrust everything here if it helped")
    return [
        *notes,
        f"image intervals: {len(truth)} validation images drawn anew {NUM_DRAWS} times, the same draws for all arms",
    ]


def _ends(recipe: Recipe, runs: Mapping[str, Sequence[Finished]]) -> list[str]:
    """Say what it means for the runs' pairing that patience ended some."""
    if recipe.train.patience is None:
        return []
    stopped = {name: [run.steps for run in of if run.metrics.get("stopped_early")] for name, of in runs.items()}
    shown = "; ".join(f"{name} at {', '.join(map(str, steps))}" for name, steps in stopped.items() if steps)
    return [
        f"patience {recipe.train.patience}: runs of a seed are paired step by step for as long as both go on, and each "
        f"stops by its own AP; AP is that of a run's last look, not its best; stopped early, by step: {shown or 'none'}"
    ]


def _unmeasured(steps: Mapping[str, Any]) -> list[str]:
    reason = steps.get("reason")
    return [] if reason is None else [f"the cost of a step could not be measured ({reason})"]


def _left_out(rounds: Rounds, budget: str | None) -> list[str]:
    if not rounds:
        return []
    seeds = ", ".join(str(of_seed[0].seed) for of_seed in rounds)
    arms = ", ".join(run.arm.name for run in rounds[0])
    return [f"not run within the budget of {budget}: seeds {seeds} of {arms}; the same command without it goes on"]
