"""kdet export."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kdet.cli.data import FormatName, Images
from kdet.cli.options import AllowCode, AsJson, BadBox, Out, show


def export(
    model: Annotated[Path, typer.Argument(metavar="RUN|CHECKPOINT", help="A run folder or its student.safetensors.")],
    to: Annotated[str, typer.Option("--to", help="onnx, pt2, openvino, executorch or litert.")] = "onnx",
    out: Out = Path("exported"),
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Of the input; default: the model's square, or as the images need."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch-size", help="Images at a time; default: any number, where the target can.")
    ] = None,
    preprocess: Annotated[
        bool, typer.Option("--preprocess/--no-preprocess", help="Whether mean and std are part of the file.")
    ] = True,
    postprocess: Annotated[
        bool, typer.Option("--postprocess/--no-postprocess", help="Whether top-k and NMS are part of the file.")
    ] = True,
    int8: Annotated[bool, typer.Option("--int8", help="In eight bits, calibrated on training images.")] = False,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", help="AP that the file may lose; default 0.002, or 0.01 in eight bits."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="Images to check with; default: the run's own.")
    ] = None,
    format_name: FormatName = None,
    images: Images = None,
    on_bad_box: BadBox = None,
    check_images: Annotated[int, typer.Option("--check-images", help="Of the validation data, at most.")] = 200,
    calibration: Annotated[int, typer.Option("--calibration-images", help="Of the training data, for --int8.")] = 64,
    license_name: Annotated[str | None, typer.Option("--license", help="Of the weights, for the card.")] = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """The student alone as a file for the device, kept only if it finds what the model finds; with a card.

    Example: kdet export runs/distilled --to onnx --out exported
    """
    from kdet.cli.sources import open_path
    from kdet.workflows.export import Wish
    from kdet.workflows.export import export as write

    wish = Wish(
        to=to,
        size_hw=_size(size),
        batch=batch,
        normalises=preprocess,
        selects=postprocess,
        int8=int8,
        max_drop=max_drop,
        images=check_images,
        calibration=calibration,
        license=license_name,
    )
    val = None if data is None else open_path(data, format_name, "val", images, on_bad_box)
    train = None if data is None or not int8 else open_path(data, format_name, "train", images, on_bad_box)
    result = write(model, out, wish, val=val, train=train, say=lambda line: print(line, file=sys.stderr, flush=True))
    show(result, as_json, lambda: _text(result, out))


def _size(written: str | None) -> tuple[int, int] | None:
    from kdet.errors import InputError

    if written is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", written)
    if found is None:
        raise InputError(f"--size {written}: expected height and width, such as 320x512")
    return int(found[1]), int(found[2])


def _text(result: dict[str, Any], out: Path) -> str:
    ap, (model, file) = result["AP"], result["speed"]["models"]
    return (
        f"AP {ap['model']:.3f} → {ap['file']:.3f}, {model['latency_ms']:.1f} → {file['latency_ms']:.1f} ms an image, "
        f"{result['bytes'] / 1e6:.1f} MB → {out / result['file']}"
    )
