"""The runs of a comparison, round by round: one seed of every arm, then the next; each continued where it stands."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from kdet.errors import InputError, WorkError
from kdet.train import Outcome, Recipe, fit, read_recipe
from kdet.train.build import resolved
from kdet.train.state.run import Watch
from kdet.train.state.run_folder import METRICS, RECIPE, as_begun, write_json
from kdet.workflows.compare.arms import NONE, Arm, recipe_for
from kdet.workflows.compare.early_look import fell_behind

Json = dict[str, Any]
Items = list[Any]

COST = "cost.json"
"""Written when a run is complete: what it took."""


class Pool(Protocol):
    """Place where runs are made; `kdet.workflows.compare.workers.Workers` but for tests."""

    def __len__(self) -> int: ...

    def submit(self, job: Callable[[Recipe, Path], None], recipe: Recipe, folder: Path, /) -> Future[None]:
        """Schedule a job, as an executor does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of one arm."""

    arm: Arm
    seed: int
    recipe: Recipe
    folder: Path
    alone: tuple[Path, ...] = ()
    """Runs of the student alone for an arm with a teacher, that of the same seed first."""

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """All that it leaves behind is there."""
        return (self.folder / METRICS).exists() and (self.folder / COST).exists()


def plan(
    recipe: Recipe, arms: Sequence[Arm], num_seeds: int, out: Path, *, fair_start: bool = False
) -> list[list[Planned]]:
    """Return the rounds of runs; seeds count up from the recipe's, `fair_start` is as of `recipe_for`.

    Raises:
        InputError: a folder holds a run of another recipe.
    """
    seeds = range(recipe.train.seed, recipe.train.seed + num_seeds)
    alone = {seed: out / NONE / f"seed-{seed}" for seed in seeds}
    rounds = [
        [
            Planned(
                arm=arm,
                seed=seed,
                recipe=recipe_for(recipe, arm, seed, fair_start=fair_start),
                folder=out / arm.name / f"seed-{seed}",
                alone=(alone[seed], *(alone[other] for other in seeds if other != seed)) if arm.terms else (),
            )
            for arm in arms
        ]
        for seed in seeds
    ]
    for run in (run for of_seed in rounds for run in of_seed):
        require_same_recipe(run.recipe, run.folder)
    return rounds


def run_rounds(rounds: Sequence[Sequence[Planned]], pool: Pool, *, budget: float | None = None) -> int:
    """Make the runs that are not there yet; returns how many rounds are complete.

    Args:
        rounds: from `plan`.
        pool: where they are made.
        budget: seconds; a round begins only if the longest so far still fits. The first begins in any case.

    Raises:
        InputError: from a run; the others of its round are finished first.
        WorkError: likewise.
    """
    started = time.monotonic()
    longest = 0.0
    for number, runs in enumerate(rounds):
        missing = [run for run in runs if not run.finished]
        spent = time.monotonic() - started
        if missing and number and budget is not None and spent + longest > budget:
            return number
        began = time.monotonic()
        _run_all(missing, pool, f"round {number + 1} of {len(rounds)}")
        longest = max(longest, time.monotonic() - began, _recorded_time(runs) / len(pool))
    return len(rounds)


def go_on(recipe: Recipe, folder: Path, watch: Watch | None = None) -> Outcome:
    """Train a run from wherever it stands to its end; `watch` as of `fit`.

    Raises:
        InputError: the folder holds a run of another recipe.
    """
    require_same_recipe(recipe, folder)
    return fit(recipe, folder, resume=(folder / RECIPE).exists(), watch=watch)


def train_one(recipe: Recipe, folder: Path, *, watch: Watch | None = None) -> None:
    """One run from wherever it stands to its end, and what it took; `watch` as of `fit`."""
    started = time.monotonic()
    outcome = go_on(recipe, folder, watch)
    on_gpu = torch.cuda.is_available()
    cost = {
        "seconds": round(outcome.seconds, 2),
        "wall_seconds": round(max(outcome.seconds, time.monotonic() - started), 2),
        "memory_bytes": peak_memory("cuda" if on_gpu else "cpu"),
        "memory_of": "GPU" if on_gpu else "process",
    }
    write_json(folder / COST, cost)


def cost_of(folder: Path) -> dict[str, Any]:
    """Read what a run took."""
    try:
        return json.loads((folder / COST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder / COST}: cannot be read; remove it, and the same command writes it anew") from None


def _run_all(runs: Sequence[Planned], pool: Pool, label: str) -> None:
    if runs:
        print(f"{label}: {'; '.join(run.name for run in runs)}", file=sys.stderr, flush=True)
    waiting = {pool.submit(_job(run), run.recipe, run.folder): run for run in runs}
    for future in as_completed(waiting):
        if future.exception() is None:
            ap = json.loads((waiting[future].folder / METRICS).read_text(encoding="utf-8"))["AP"]
            print(f"{waiting[future].name}: AP {ap:.3f}", file=sys.stderr, flush=True)
    for future, run in waiting.items():
        error = future.exception()
        if isinstance(error, InputError | WorkError):
            raise type(error)(f"{run.name}: {error}") from None
        if error is not None:
            raise error


def _job(run: Planned) -> Callable[[Recipe, Path], None]:
    return partial(train_one, watch=partial(fell_behind, run.folder, run.alone)) if run.alone else train_one


def _recorded_time(runs: Sequence[Planned]) -> float:
    """Sum the recorded times of a round's runs, for a round of which some runs were there before."""
    return sum(float(cost_of(run.folder)["wall_seconds"]) for run in runs)


def require_same_recipe(recipe: Recipe, folder: Path) -> None:
    """A folder is new, or holds a run of this very recipe.

    Raises:
        InputError: it holds another.
    """
    path = folder / RECIPE
    if not path.exists():
        return
    theirs = as_begun(read_recipe(path), folder).model_dump(mode="json")
    ours = resolved(recipe).model_dump(mode="json")
    if differs := _first_difference(ours, theirs):
        raise InputError(f"{folder}: holds a run of another recipe ({differs}); name another folder with --out")


def _first_difference(ours: Any, theirs: Any, key: str = "") -> str | None:
    """`train.lr: 0.01 here, 0.02 there`, or None where both are the same."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = dict.fromkeys([*cast(Json, ours), *cast(Json, theirs)])
        pairs = [(name, ours.get(name), theirs.get(name)) for name in keys]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(cast(Items, ours)) == len(cast(Items, theirs)):
        pairs = [(str(i), one, other) for i, (one, other) in enumerate(zip(ours, theirs, strict=True))]
    else:
        return None if ours == theirs else f"{key}: {ours} here, {theirs} there"
    found = (_first_difference(one, other, f"{key}.{name}" if key else name) for name, one, other in pairs)
    return next((difference for difference in found if difference), None)


def peak_memory(device: str) -> int | None:
    """Read this process' peak memory in bytes, on the GPU ("cuda") or in main memory; None where it is unknown."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    try:  # not getrusage: there a process starts with the peak of the one that started it
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else None
