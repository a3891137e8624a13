"""kdet label."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from kdet.cli.options import AllowCode, AsJson, Out, show


def label(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN|FILE|MODEL",
            help="A recipe (its teacher), a run folder, a weights file; or a zero-shot detector of transformers: a "
            "folder, or a name on the hub.",
        ),
    ],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder; all images below it.")],
    to: Annotated[str, typer.Option("--to", help="coco or yolo.")],
    out: Out,
    score: Annotated[
        str,
        typer.Option(
            "--score", help="Boxes from this score on; auto: chosen class by class on labelled images of the recipe."
        ),
    ] = "0.3",
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="What a zero-shot detector looks for: 'car: a car; bus: a bus; bus: a coach'."),
    ] = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Label images with what a model finds, as a data set with scores that `data:` and `unlabelled:` read.

    Example: kdet label runs/teacher photos/ --to coco --out labels
    """
    from kdet.workflows.label import label as label_images

    result = label_images(
        model, images, out, to=to, score=_score(score), prompt=prompt, say=lambda line: print(line, file=sys.stderr)
    )
    counts = ", ".join(f"{name} {count}" for name, count in result["boxes"].items())
    text = f"{out}: {result['images']} images as {to}, boxes on {result['with_boxes']} of them: {counts}"
    show(result, as_json, lambda: text if result["with_boxes"] else f"{text}; nothing was found, try a lower --score")


def _score(given: str) -> float | Literal["auto"]:
    from kdet.errors import InputError

    if given == "auto":
        return "auto"
    try:
        score = float(given)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise InputError(f"--score {given}: expected auto or a number in 0…1")
    return score
