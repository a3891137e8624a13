"""Options that several commands share, and their one way of printing."""

import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML; see recipes/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Set any recipe key, e.g. train.lr=0.01."),
]
RunFolder = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="Run folder; default runs/NAME-OF-RECIPE.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Same as -o train.seed=N.")]
BadBox = Annotated[
    str | None,
    typer.Option("--on-bad-box", help="fix (default: clip up to 1 px, drop empty boxes), clip, drop or error."),
]
FirstPixelName = Annotated[
    str, typer.Option("--first-pixel", help="VOC: from which number pixels are counted: auto, 0 or 1.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse data that would flatter a model, as images that are in both splits.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output; progress on standard error.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")]


class Precision(StrEnum):
    """Precision in which the toolkit of an exported file computes."""

    FP32 = "fp32"
    DEFAULT = "default"


RuntimePrecision = Annotated[
    Precision,
    typer.Option(
        "--runtime-precision",
        help="Of exported files: fp32, or default, which their toolkit chooses on this processor.",
    ),
]


def _allow_code(allowed: bool) -> bool:
    """Allow code for this process and those that it starts."""
    if allowed:
        from kdet.detectors import ALLOWED

        os.environ[ALLOWED] = "1"
    return allowed


AllowCode = Annotated[
    bool, typer.Option("--allow-code", callback=_allow_code, help="Run the code that a `factory:` names.")
]
"""Read by its callback; a command only has to list it."""


def show(result: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result for a program or for a person."""
    if as_json:
        json.dump(result, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        print(text())


def noted(line: str) -> None:
    """A line beside the result, for a person."""
    print(f"note: {line}", file=sys.stderr)


def metrics_table(metrics: dict[str, Any]) -> str:
    """AP and its parts, then AP per class, as text."""
    keys = [key for key in metrics if key.startswith("AP")]
    lines = ["  ".join(f"{key} {_number(metrics[key])}" for key in keys)]
    width = max((len(name) for name in metrics["per_class"]), default=0)
    lines += [f"  {name:<{width}}  AP {_number(values['AP'])}" for name, values in metrics["per_class"].items()]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
