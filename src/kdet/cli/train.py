"""kdet train, kdet distill."""

from pathlib import Path

from kdet.cli.options import AsJson, Overrides, RecipePath, Resume, RunFolder, Seed, metrics_table, show


def train(
    recipe: RecipePath,
    override: Overrides = None,
    run: RunFolder = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train the detector of the recipe's `student:` alone: a teacher, or the baseline.

    Example: kdet train recipes/bccd/teacher.yaml --run runs/teacher
    """
    _fit(recipe, override, run, seed, resume, as_json, alone=True)


def distill(
    recipe: RecipePath,
    override: Overrides = None,
    run: RunFolder = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train the student under the recipe's `teacher:` with its `distill:` terms.

    Example: kdet distill recipes/bccd/structural.yaml -o teacher.run=runs/teacher
    """
    _fit(recipe, override, run, seed, resume, as_json, alone=False)


def _fit(
    path: Path,
    override: list[str] | None,
    run: Path | None,
    seed: int | None,
    resume: bool,
    as_json: bool,
    *,
    alone: bool,
) -> None:
    from kdet.errors import InputError
    from kdet.train import fit, read_recipe

    overrides = [*(override or []), *([] if seed is None else [f"train.seed={seed}"])]
    recipe = read_recipe(path, overrides)
    if alone:
        recipe = recipe.model_copy(update={"teacher": None, "distill": []})
    elif recipe.teacher is None:
        raise InputError(f"{path}: no `teacher:` to distil from; `kdet train` trains the student alone")
    folder = run or Path("runs") / path.stem
    outcome = fit(recipe, folder, resume=resume)
    result = {
        "run": str(folder),
        "metrics": outcome.metrics,
        "best_epoch": outcome.best_epoch,
        "seconds": outcome.seconds,
    }
    show(
        result,
        as_json,
        lambda: f"{metrics_table(outcome.metrics)}\n{outcome.steps} steps in {outcome.seconds:.0f} s → {folder}",
    )
