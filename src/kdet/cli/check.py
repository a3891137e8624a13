"""kdet check."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.options import AllowCode, AsJson, Overrides, RecipePath, Seed, show


def check(
    recipe: RecipePath,
    override: Overrides = None,
    seed: Seed = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings too end with exit status 1.")] = False,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="DIR", help="Instead: do a step again that broke, from a run's bad-batch."),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(
            "--trial",
            metavar="TIME",
            help="Train a few steps with and without each term, e.g. 2m, and say which way each goes: a hint.",
        ),
    ] = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Look before a run: data, classes, levels, the teacher's AP, one real step, time and memory. Writes nothing.

    Ends with exit status 1 if distillation would not act, and says how to mend it.

    Example: kdet check recipes/bccd/retinanet_structural.yaml --strict --trial 2m
    """
    from kdet.train import read_recipe
    from kdet.workflows.check.replay import as_text as replay_text
    from kdet.workflows.check.replay import replay as replay_step
    from kdet.workflows.check.run import check as check_recipe
    from kdet.workflows.check.text import as_text

    overrides = [*(override or []), *([] if seed is None else [f"train.seed={seed}"])]
    if replay is not None:
        result = replay_step(read_recipe(recipe, overrides), replay)
        show(result, as_json, lambda: replay_text(result))
        raise typer.Exit(0 if result["finite"] else 1)
    report = check_recipe(read_recipe(recipe, overrides), trial=trial)
    show(report.as_json(), as_json, lambda: as_text(report, strict=strict))
    if not report.passed(strict=strict):
        raise typer.Exit(1)
