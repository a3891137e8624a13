"""kdet search."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.options import AllowCode, AsJson, Overrides, RecipePath, show


def search(
    recipe: RecipePath,
    budget: Annotated[
        str, typer.Option("--budget", metavar="TIME", help="Begin no run that would not fit, e.g. 2h or 1h30m.")
    ],
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="NAME,NAME,…", help="What to choose from; + joins methods of one candidate."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Default: runs/search-NAME-OF-RECIPE.")
    ] = None,
    override: Overrides = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Which method, weight and levels for these data: short runs on the training images, the best go on longer.

    The same command goes on where an earlier one ended. Writes recipe.yaml with the choice and search.json.

    Example: kdet search recipes/shapes/structural.yaml --budget 1h
    """
    from kdet.train import read_recipe
    from kdet.workflows.search.run import CANDIDATES, table
    from kdet.workflows.search.run import search as run

    folder = out or Path("runs") / f"search-{recipe.stem}"
    names = [name.strip() for name in methods.split(",") if name.strip()] if methods else CANDIDATES
    result = run(read_recipe(recipe, override or ()), budget=budget, out=folder, methods=names)
    show(result, as_json, lambda: table(result))
