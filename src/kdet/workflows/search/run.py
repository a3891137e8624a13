"""kdet search: which method, weight and levels suit these data, by short runs on the training images alone.

Successive halving: every candidate gets a short run with a learning-rate schedule of its own; the better third gets one
three times as long, and so on. Validation images are never looked at: a part of the training images is held out. A
teacher that was trained on that part may flatter the candidates, which is said; one with the same `hold_out` does not.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kdet.data import EpochSampler
from kdet.distill import METHODS, RATIO
from kdet.errors import InputError
from kdet.train import Recipe, open_data, write_recipe
from kdet.train.optim import steps_of
from kdet.train.prepare import prepare
from kdet.train.recipe.file import nearest
from kdet.train.recipe.models import TermRecipe
from kdet.train.state.run_folder import write_json
from kdet.types import Need
from kdet.workflows.budget import seconds_of
from kdet.workflows.search.bench import Bench, Trial
from kdet.workflows.seen import flattered, seen_in_training

RESULT, BEST = "search.json", "recipe.yaml"
CANDIDATES = ("l2", "structural", "pkd", "prediction_guided", "structural+rank_mimicking")
"""Methods joined by +; those that the pair of detectors cannot serve are left out, and that is said."""
ETA = 3
"""The better third goes on, with three times the steps."""
RUNGS = 3
RATIOS = (0.05, 30.0)
"""Range of the pull at the student's neck; weights themselves do not compare between methods."""
HOLD_OUT = 0.2
MOST_TRIALS = 100
_FINEST = 3
"""Levels that are left where the coarse ones are left out."""


def search(recipe: Recipe, *, budget: str, out: Path, methods: Sequence[str] = CANDIDATES) -> dict[str, Any]:
    """Try candidates until the time is over; write the best one's recipe and the evidence.

    Args:
        recipe: with a teacher; its `distill:` is what is replaced.
        budget: time, such as 2h; no run is begun that would not fit, but for the first of each kind.
        out: folder; the same call with the same folder goes on where an earlier one ended.
        methods: what to choose from, names joined by +.

    Returns:
        The evidence: the best candidate with its gain, every run, and what was left out.

    Raises:
        InputError: wrong input, no candidate that the detectors can serve, or a folder with other runs.
        WorkError: a run failed.
    """
    optuna = _optuna()
    seconds = seconds_of(budget)
    base = _held_out(recipe)
    held_out, doubts = _how_clean(base)
    strides, left_out = _try_to_build(base, methods)
    served = [name for name in methods if name not in left_out]
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=recipe.train.seed, n_startup_trials=2 * len(served)),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=ETA),
    )
    for name in served:  # every candidate once with the usual ratio, before anything is guessed
        study.enqueue_trial({"methods": name, "ratio": RATIO, "levels": "all"})
    bench = Bench(base, out, steps=_steps(base), seconds=seconds, reading_features=_reading_features())
    print("\n".join(doubts), end="\n" * bool(doubts), file=sys.stderr, flush=True)
    bench.alone(0)
    while len(study.trials) < MOST_TRIALS and (bench.fits(0) or len(bench.rows) < 2):
        asked = study.ask()
        trial = Trial(
            number=asked.number,
            methods=asked.suggest_categorical("methods", served),
            ratio=round(asked.suggest_float("ratio", *RATIOS, log=True), 3),
            strides=None if asked.suggest_categorical("levels", ("all", "fine")) == "all" else strides[:_FINEST],
        )
        value = _climb(bench, trial, asked)
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        study.tell(asked, value, state=state)
    return _conclude(recipe, bench, out, {"left_out": left_out, "held_out": held_out, "notes": doubts})


def table(result: dict[str, Any]) -> str:
    """Return the evidence as text, longest runs first."""
    lines = [f"{'steps':>7}  {'AP held out':>11}  candidate"]
    for row in sorted(result["runs"], key=lambda row: (-row["steps"], -row["AP"])):
        about = "student alone" if row["methods"] == "none" else f"{row['methods']}, ratio {row['ratio']:g}"
        levels = f", strides {list(row['strides'])}" if row.get("strides") else ""
        lines.append(f"{row['steps']:>7}  {row['AP']:>11.3f}  {about}{levels}")
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join([*lines, *result["notes"], result["says"]])


def _climb(bench: Bench, trial: Trial, asked: Any) -> float | None:
    """Longer and longer runs while it is among the best third; AP of the longest, None where it fell out."""
    value = None
    for rung in range(RUNGS):
        if rung and not bench.fits(rung):
            return None
        value = bench.run(trial, rung)
        asked.report(value, ETA**rung)
        if rung + 1 < RUNGS and asked.should_prune():
            return None
    return value


def _conclude(recipe: Recipe, bench: Bench, out: Path, circumstances: dict[str, Any]) -> dict[str, Any]:
    """The best candidate of the longest runs, against the student alone for as long."""
    rung = max(row.rung for row in bench.rows)
    alone = bench.alone(rung)
    best = max((row for row in bench.rows if row.rung == rung and row.trial), key=lambda row: row.ap)
    assert best.trial is not None
    terms = best.trial.terms(recipe, _reading_features())
    write_recipe(recipe.model_copy(update={"distill": terms}), out / BEST)
    gain = best.ap - alone
    verdict = (
        f"best: {best.trial}: AP {best.ap:.3f} on held-out training images after {best.steps} steps, student alone "
        f"{alone:.3f} ({gain:+.3f}). One seed, chosen among {len(bench.rows)} runs: this is a choice and no proof; "
        f"for one: kdet compare {out / BEST} --arms none,{best.trial.methods}"
    )
    result = {
        "best": best.as_json() | {"gain": gain},
        "alone": alone,
        "says": verdict,
        **circumstances,
        "runs": [row.as_json() for row in bench.rows],
        "recipe": str(out / BEST),
    }
    write_json(out / RESULT, result)
    return result


def _held_out(recipe: Recipe) -> Recipe:
    if recipe.teacher is None:
        raise InputError("the recipe has no `teacher:` to distil from; add `teacher: {run: …}`")
    data = recipe.data
    if data.hold_out is None:
        data = data.model_copy(update={"hold_out": HOLD_OUT})
    return recipe.model_copy(update={"data": data, "arms": {}})


def _how_clean(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """How many images are held out, how many of them each teacher was trained on, and what follows."""
    judged = open_data(recipe).val
    seen = seen_in_training(recipe, judged)
    doubts = list(flattered(recipe, judged))
    if None in seen:
        doubts.append(
            "which images a teacher was trained on is not known; if the held-out ones are among them, gains over the "
            "student alone may be too good"
        )
    return {"images": len(judged.index), "seen_by_teachers": seen}, doubts


def _try_to_build(recipe: Recipe, methods: Sequence[str]) -> tuple[tuple[int, ...], dict[str, str]]:
    """The paired strides, and which candidates these detectors cannot serve, with the reason."""
    splits = open_data(recipe)
    strides: tuple[int, ...] = ()
    left_out: dict[str, str] = {}
    for name in methods:
        parts = name.split("+")
        if unknown := [part for part in parts if part not in METHODS]:
            raise InputError(f"--methods: unknown method {unknown[0]!r}; {nearest(unknown[0], list(METHODS))}")
        own = recipe.model_copy(update={"distill": [TermRecipe(method=part) for part in parts]})
        try:
            pairing = prepare(own, splits=splits).distiller.pairing
        except InputError as error:
            left_out[name] = str(error)
            continue
        assert pairing is not None
        strides = tuple(sorted(level.stride for level in pairing.levels))
    if len(left_out) == len(methods):
        raise InputError(f"none of the candidates fits these detectors: {next(iter(left_out.values()))}")
    return strides, left_out


def _steps(recipe: Recipe) -> list[int]:
    """Steps of a run on each rung; the last is the recipe's own length."""
    train = recipe.train
    images = len(open_data(recipe).train.index)
    batches = EpochSampler(images, batch_size=train.batch_size).steps
    whole = steps_of(train, batches)
    return [max(1, whole // ETA ** (RUNGS - 1 - rung)) for rung in range(RUNGS)]


def _reading_features() -> frozenset[str]:
    """Methods whose terms can leave out levels."""
    return frozenset(name for name, method in METHODS.items() if Need.FEATURES in method.needs()[0])


def _optuna() -> Any:
    try:
        optuna: Any = import_module("optuna")
    except ImportError:
        raise InputError("kdet search needs optuna; install it with: pip install 'kdet[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
