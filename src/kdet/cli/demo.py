"""kdet demo."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.options import AsJson, Out, show


def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Weights, order and augmentation of every run.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The whole job on generated images: a teacher, a small student alone and distilled, a table and a page.

    Takes some minutes on two CPU cores; needs no data and no network. An interrupted demo goes on in its folder.

    Example: kdet demo --out demo --seed 1
    """
    from kdet.workflows.demo import run_demo, table

    result = run_demo(out, seed=seed)
    show(result, as_json, lambda: f"{table(result)}\n→ {out / 'index.html'}")
