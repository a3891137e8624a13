"""The formats by name, and which of them a path holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from kdet.data.formats import csv_boxes
from kdet.data.formats.coco import reader as coco
from kdet.data.formats.validate import OnBadBox
from kdet.data.formats.voc import reader as voc
from kdet.data.formats.voc.xml import parse as parse_xml
from kdet.data.formats.yolo import reader as yolo
from kdet.data.index import DetectionIndex
from kdet.data.shapes.generator import Shapes, ShapesSource
from kdet.data.source import FileSource, Source
from kdet.errors import InputError
from kdet.files import exists, is_file


class Reader(Protocol):
    """How every format on the disk is read."""

    def __call__(
        self,
        path: Path,
        *,
        split: str = "train",
        images: Path | None = None,
        classes: Sequence[str] | None = None,
        on_bad_box: OnBadBox = "fix",
    ) -> DetectionIndex:
        """The index of one split."""
        ...


class Writer(Protocol):
    """How every format on the disk is written."""

    def __call__(self, index: DetectionIndex, folder: Path, *, split: str = "train") -> Path:
        """Write the annotations; returns the folder for the images."""
        ...


@dataclass(frozen=True)
class Format:
    """One format."""

    summary: str
    """What a user gives, in one line."""
    read: Reader | None = None
    """None: generated, not read."""
    write: Writer | None = None
    recognise: Callable[[Path], bool] = lambda path: False
    """Whether a path looks like this format."""


FORMATS: dict[str, Format] = {
    "coco": Format("annotation JSON, or a folder with annotations_{split}.json", coco.read, coco.write, coco.recognise),
    "voc": Format(
        "folder with Annotations/, JPEGImages/ and ImageSets/Main/, or a list in there",
        voc.read,
        voc.write,
        voc.recognise,
    ),
    "yolo": Format("data.yaml with images/ and labels/", yolo.read, yolo.write, yolo.recognise),
    "csv": Format("_annotations.csv with its images beside it", csv_boxes.read, csv_boxes.write, csv_boxes.recognise),
    "shapes": Format("generated images of coloured shapes, nothing to download"),
}


def recognise(path: Path) -> str:
    """Return the name of the format that a path holds.

    Raises:
        InputError: no such path, or none of the formats.
    """
    if not exists(path):
        raise InputError(f"{path}: no such file or folder")
    for name, form in FORMATS.items():
        if form.recognise(path):
            return name
    if path.suffix.lower() == ".xml" and is_file(path):
        parse_xml(path)  # says what it is, if it is none of VOC's
        raise InputError(f"{path}: one file of a VOC data set; name the folder that holds it")
    expected = "; ".join(f"{name}: {form.summary}" for name, form in FORMATS.items() if form.read)
    raise InputError(f"{path}: not a data set that kdet knows; expected one of {expected}")


def format_named(name: str) -> Format:
    """Look up a format by its name.

    Raises:
        InputError: unknown name; lists the known ones.
    """
    if name not in FORMATS:
        raise InputError(f"unknown data format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def open_source(
    format: str,
    path: Path | None = None,
    *,
    split: str = "train",
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    on_bad_box: OnBadBox = "fix",
    first_pixel: voc.FirstPixel = "auto",
    shapes: Shapes | None = None,
) -> Source:
    """Open one split of a data set.

    Args:
        format: a key of FORMATS.
        path: file or folder; None for shapes.
        split: "train", "val", or as the data call it.
        images: image folder where it is not in a usual place.
        classes: names and order where the data have none of their own.
        on_bad_box: see `OnBadBox`.
        first_pixel: of VOC; see `voc.read`.
        shapes: what to generate, for format "shapes".

    Raises:
        InputError: whatever is wrong with the data, named by file and entry.
    """
    form = format_named(format)
    if form.read is None:
        return ShapesSource(shapes, split=split)
    if path is None:
        raise InputError(f"data format {format!r} needs a path: {form.summary}")
    read = form.read
    if first_pixel != "auto":
        if read is not voc.read:
            raise InputError(f"first_pixel is of VOC data alone, and {path} is read as {format}; leave it out")
        read = partial(voc.read, first_pixel=first_pixel)
    return FileSource(read(path, split=split, images=images, classes=classes, on_bad_box=on_bad_box))
