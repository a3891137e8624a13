"""kdet compare."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.options import AllowCode, AsJson, Overrides, RecipePath, show


def compare(
    recipe: RecipePath,
    arms: Annotated[
        str | None,
        typer.Option(
            "--arms",
            metavar="NAME,NAME,…",
            help="none, all, methods joined by + (rm, pfi for short), or the recipe's arms. Default: those, all of "
            "them, else none,l2,structural,rm+pfi,all.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", help="Runs of each arm; they count up from train.seed.")
    ] = 3,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Begin no round that would not fit, e.g. 2h or 1h30m."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Default: runs/compare-NAME-OF-RECIPE.")
    ] = None,
    fair_start: Annotated[
        bool,
        typer.Option(
            "--fair-start", help="Let `none` start from the teacher's weights too, where the student inherits."
        ),
    ] = False,
    longer: Annotated[
        str,
        typer.Option(
            "--longer",
            metavar="TIMES,…",
            help="Arms of the student alone with so many times the steps, e.g. 2,4: is it more than training longer?",
        ),
    ] = "",
    override: Overrides = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Paired runs of several arms: gain, confidence intervals, cost, and whether it helped.

    The same command goes on where an earlier one ended. Writes compare.json and index.html.

    Example: kdet compare recipes/shapes/structural.yaml --arms none,l2,structural --seeds 3 --longer 2,4 --budget 2h
    """
    from kdet.train import read_recipe
    from kdet.workflows.compare.arms import usual_arms
    from kdet.workflows.compare.run import PAGE, table
    from kdet.workflows.compare.run import compare as run

    folder = out or Path("runs") / f"compare-{recipe.stem}"
    checked = read_recipe(recipe, override or ())
    names = usual_arms(checked) if arms is None else [name.strip() for name in arms.split(",") if name.strip()]
    times = _times(longer)
    result = run(checked, names, num_seeds=seeds, out=folder, budget=budget, fair_start=fair_start, longer=times)
    show(result, as_json, lambda: f"{table(result)}\n→ {folder / PAGE}")


def _times(text: str) -> list[int]:
    """2,4 → [2, 4]."""
    from kdet.errors import InputError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise InputError(f"--longer {wrong[0]}: expected whole numbers above 1, each once, such as 2,4")
    return [int(part) for part in parts]
