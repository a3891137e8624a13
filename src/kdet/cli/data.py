"""kdet data: look at, convert and generate data sets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kdet.cli.options import AsJson, BadBox, FirstPixelName, Strict, noted, show

app = typer.Typer(help="Look at, convert and generate data sets.", no_args_is_help=True, rich_markup_mode=None)

DataPath = Annotated[Path, typer.Argument(metavar="PATH", help="Annotation file, data.yaml or folder.")]
_WRITTEN = "coco, voc, yolo or csv."
FormatName = Annotated[str | None, typer.Option("--format", help="coco, voc, yolo or csv; default: recognised.")]
Split = Annotated[str, typer.Option("--split", help="train, val, or as the data call it.")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images where it is not the usual one.")]


@app.command("inspect")
def inspect_data(
    path: DataPath,
    format_name: FormatName = None,
    split: Split = "train",
    images: Images = None,
    on_bad_box: BadBox = None,
    first_pixel: FirstPixelName = "auto",
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image, to find those that are damaged.")
    ] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Count images, boxes, classes and sizes, and name what is wrong.

    Example: kdet data inspect ../shared/data/bccd/annotations_train.json
    """
    from kdet.cli.sources import first_pixel_of, open_path, other_split
    from kdet.data import inspect, leak
    from kdet.data.formats.splits import UNDIVIDED
    from kdet.errors import InputError

    source = open_path(path, format_name, split, images, on_bad_box, first_pixel_of(first_pixel))
    result = inspect(source, decode=decode)
    several = path.is_dir() or path.suffix.lower() not in (".json", ".csv", ".txt")
    beside = other_split(path, format_name, split, images, on_bad_box) if several else None
    if beside and any(UNDIVIDED in note for note in beside.index.notes):
        result["problems"].append(
            f"{path}: has no splits; `kdet data convert --split-off 0.2` makes one for validation"
        )
        beside = None
    shared = None if beside is None else leak(*((source, beside) if split == "train" else (beside, source)))
    if shared:
        result["problems"].append(shared)
    show(result, as_json, lambda: "\n".join(f"{key}: {_plain(value)}" for key, value in result.items()))
    if shared and strict:
        raise InputError(shared)


@app.command("convert")
def convert_data(
    path: DataPath,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", help=_WRITTEN)],
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="PATH", help="Validation data, into the same folder; PATH is train then."),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option("--split-off", min=0, max=1, help="Make this share of the images the validation split."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --split-off: another seed, another choice.")] = 0,
    format_name: FormatName = None,
    split: Split = "train",
    images: Images = None,
    on_bad_box: BadBox = None,
    first_pixel: FirstPixelName = "auto",
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Write a data set in another format; nothing half-written is left behind.

    Example: kdet data convert train.json photos-yolo --to yolo --val val.json
    """
    from kdet.cli.sources import first_pixel_of, open_path
    from kdet.data import convert, divided, leak
    from kdet.errors import InputError

    if share is not None and (val is not None or not 0 < share < 1):
        raise InputError(f"--split-off {share:g}: expected a share between 0 and 1, in place of --val")
    first = first_pixel_of(first_pixel)
    splits = {split: path} if val is None else {"train": path, "val": val}
    sources = {name: open_path(file, format_name, name, images, on_bad_box, first) for name, file in splits.items()}
    if share is not None:
        sources["train"], sources["val"] = divided(sources.pop(split), share, seed)
    notes = [note for source in sources.values() for note in source.index.notes]
    if len(sources) == 2 and (shared := leak(*sources.values())):
        if strict:
            raise InputError(shared)
        notes.append(shared)
    notes += convert(sources, to, folder)
    for note in notes:
        noted(note)
    show({"folder": str(folder), "format": to, "notes": notes}, as_json, lambda: f"{folder}: written as {to}")


@app.command("shapes")
def generate_shapes(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", metavar="KEY=VALUE", help="images, image_size, classes, occlusion, texture …"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another data set.")] = 0,
    to: Annotated[str, typer.Option("--to", help=_WRITTEN)] = "coco",
    as_json: AsJson = False,
) -> None:
    """Generate images of coloured shapes with exact boxes; the keys are those of a recipe's `data: {format: shapes}`.

    Example: kdet data shapes runs/shapes -o images=200 -o texture=0.8 --seed 1
    """
    from kdet.data import ShapesSource, convert
    from kdet.train.recipe.file import shapes_from

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
