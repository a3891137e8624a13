"""kdet data: look at, convert and generate data sets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kdet.cli.options import AsJson, BadBox, show

app = typer.Typer(help="Look at, convert and generate data sets.", no_args_is_help=True, rich_markup_mode=None)

DataPath = Annotated[Path, typer.Argument(metavar="PATH", help="Annotation file, data.yaml or folder.")]
FormatName = Annotated[str | None, typer.Option("--format", help="coco, voc or yolo; default: recognised.")]
Split = Annotated[str, typer.Option("--split", help="train or val, where the path holds both.")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images where it is not the usual one.")]


@app.command("inspect")
def inspect_data(
    path: DataPath,
    format_name: FormatName = None,
    split: Split = "train",
    images: Images = None,
    on_bad_box: BadBox = None,
    as_json: AsJson = False,
) -> None:
    """Count images, boxes, classes and sizes, and name what is wrong.

    Example: kdet data inspect ../shared/data/bccd/annotations_train.json
    """
    from kdet.cli.sources import open_path
    from kdet.data import inspect

    result = inspect(open_path(path, format_name, split, images, on_bad_box))
    show(result, as_json, lambda: "\n".join(f"{key}: {_plain(value)}" for key, value in result.items()))


@app.command("convert")
def convert_data(
    path: DataPath,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", help="coco, voc or yolo.")],
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="PATH", help="Validation data, into the same folder; PATH is train then."),
    ] = None,
    format_name: FormatName = None,
    split: Split = "train",
    images: Images = None,
    on_bad_box: BadBox = None,
    as_json: AsJson = False,
) -> None:
    """Write a data set in another format; nothing half-written is left behind.

    Example: kdet data convert train.json photos-yolo --to yolo --val val.json
    """
    from kdet.cli.sources import open_path
    from kdet.data import convert

    splits = {split: path} if val is None else {"train": path, "val": val}
    sources = {name: open_path(file, format_name, name, images, on_bad_box) for name, file in splits.items()}
    notes = convert(sources, to, folder)
    show({"folder": str(folder), "format": to, "notes": list(notes)}, as_json, lambda: f"{folder}: written as {to}")


@app.command("shapes")
def generate_shapes(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", metavar="KEY=VALUE", help="images, image_size, classes, occlusion, texture …"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another data set.")] = 0,
    to: Annotated[str, typer.Option("--to", help="coco, voc or yolo.")] = "coco",
    as_json: AsJson = False,
) -> None:
    """Generate images of coloured shapes with exact boxes; the keys are those of a recipe's `data: {format: shapes}`.

    Example: kdet data shapes runs/shapes -o images=200 -o texture=0.8 --seed 1
    """
    from kdet.data import ShapesSource, convert
    from kdet.train.recipe_file import shapes_from

    shapes = shapes_from([f"seed={seed}", *(override or [])])
    sources = {split: ShapesSource(shapes, split=split, hold=False) for split in ("train", "val")}
    convert(sources, to, folder)
    show(
        {"folder": str(folder), "format": to, "train": shapes.images, "val": shapes.val_images},
        as_json,
        lambda: f"{folder}: {shapes.images} training and {shapes.val_images} validation images as {to}",
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(v)}" for key, v in value.items())  # pyright: ignore
    if isinstance(value, list | tuple):
        return "; ".join(_plain(v) for v in value) or "none"  # pyright: ignore
    return f"{value:.3g}" if isinstance(value, float) else str(value)
