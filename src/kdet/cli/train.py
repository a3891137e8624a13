"""kdet train, kdet distill."""

import sys
from pathlib import Path

from kdet.cli.options import (
    AllowCode,
    AsJson,
    BadBox,
    Overrides,
    RecipePath,
    Resume,
    RunFolder,
    Seed,
    Strict,
    metrics_table,
    show,
)


def train(
    recipe: RecipePath,
    override: Overrides = None,
    run: RunFolder = None,
    seed: Seed = None,
    on_bad_box: BadBox = None,
    resume: Resume = False,
    strict: Strict = False,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Train the detector of the recipe's `student:` alone: a teacher, or the baseline.

    Example: kdet train recipes/bccd/retinanet_teacher.yaml --run runs/bccd-teacher
    """
    _fit(recipe, _overrides(override, seed, on_bad_box), run, resume, strict, as_json, alone=True)


def distill(
    recipe: RecipePath,
    override: Overrides = None,
    run: RunFolder = None,
    seed: Seed = None,
    on_bad_box: BadBox = None,
    resume: Resume = False,
    strict: Strict = False,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Train the student under the recipe's `teacher:` with its `distill:` terms.

    Example: kdet distill recipes/bccd/retinanet_structural.yaml --run runs/bccd-structural
    """
    _fit(recipe, _overrides(override, seed, on_bad_box), run, resume, strict, as_json, alone=False)


def _overrides(given: list[str] | None, seed: int | None, on_bad_box: str | None) -> list[str]:
    """The options that stand for recipe keys, as such."""
    named = {"train.seed": seed, "data.on_bad_box": on_bad_box}
    return [*(given or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]


def _fit(
    path: Path, overrides: list[str], run: Path | None, resume: bool, strict: bool, as_json: bool, *, alone: bool
) -> None:
    from kdet.errors import InputError
    from kdet.train import fit, read_recipe

    recipe = read_recipe(path, overrides)
    if alone:
        if recipe.student.inherit:
            print("kdet train: no teacher, so `student: inherit` is left out", file=sys.stderr)
        recipe = recipe.alone()
    elif recipe.teacher is None and recipe.data.unlabelled is None:
        raise InputError(f"{path}: no `teacher:` to distil from; `kdet train` trains the student alone")
    elif recipe.only_starts_from_teacher:
        raise InputError(f"{path}: no `distill:` terms; add e.g. `distill: [{{method: structural}}]`")
    folder = run or Path("runs") / path.stem
    outcome = fit(recipe, folder, resume=resume, strict=strict)
    result = {
        "run": str(folder),
        "metrics": outcome.metrics,
        "best_epoch": outcome.best_epoch,
        "stopped_early": outcome.stopped_early,
        "seconds": outcome.seconds,
    }
    show(
        result,
        as_json,
        lambda: f"{metrics_table(outcome.metrics)}\n{outcome.steps} steps in {outcome.seconds:.0f} s → {folder}",
    )
