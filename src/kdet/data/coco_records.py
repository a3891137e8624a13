"""A COCO file's records as columns: a million Python objects would fill the memory."""

import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from math import nan
from pathlib import Path
from typing import Any, Literal

import msgspec

from kdet.errors import InputError

IMAGE = "an image's record, taken"
ANNOTATION = "an annotation's record, taken"


class Image(msgspec.Struct, gc=False):
    """What an ordinary image record says; its other keys are passed over unread."""

    id: int
    file_name: str
    width: int = -1
    height: int = -1


class Annotation(msgspec.Struct, gc=False, kw_only=True):
    """What an ordinary annotation says; a segmentation costs no memory.

    In COCO's own order: the decoder looks for a key behind the last one first.
    """

    area: float = nan
    iscrowd: bool | Literal[0, 1] = 0
    image_id: int
    bbox: tuple[float, float, float, float]
    category_id: int
    id: int
    score: float = nan


class Records:
    """Columns that grow record by record, or by blocks of ordinary ones."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.image_ids = array("q")
        self.file_names: list[str] = []
        self.widths, self.heights = array("i"), array("i")
        """Pixels; -1 where the record gives none."""
        self.ids, self.annotated, self.category_ids = array("q"), array("q"), array("q")
        self.boxes = array("d")
        """x, y, width, height, one box after the other."""
        self.areas = array("d")
        """NaN where the record gives none."""
        self.scores = array("d")
        """Likewise."""
        self.crowd = array("b")
        self.categories: list[Any] = []

    def take(self, record: dict[str, Any]) -> Any:
        """Keep what matters of an image or annotation and leave a mark in its place; pass everything else on."""
        if "bbox" in record and "image_id" in record:
            self._take_annotation(record)
            return ANNOTATION
        if "file_name" in record:
            self._take_image(record)
            return IMAGE
        return record

    def extend_images(self, block: Sequence[Image]) -> None:
        """Keep ordinary images.

        Raises:
            OverflowError: a number that no column holds.
        """
        _extend(self.image_ids, [image.id for image in block])
        _extend(self.widths, [image.width for image in block])
        _extend(self.heights, [image.height for image in block])
        self.file_names += [image.file_name for image in block]

    def extend_annotations(self, block: Sequence[Annotation]) -> None:
        """Keep ordinary annotations.

        Raises:
            OverflowError: a number that no column holds.
        """
        _extend(self.ids, [one.id for one in block])
        _extend(self.annotated, [one.image_id for one in block])
        _extend(self.category_ids, [one.category_id for one in block])
        _extend(self.boxes, list(chain.from_iterable([one.bbox for one in block])))
        _extend(self.areas, [one.area for one in block])
        _extend(self.scores, [one.score for one in block])
        _extend(self.crowd, [one.iscrowd for one in block])

    def _take_annotation(self, record: dict[str, Any]) -> None:
        identity = record.get("id", len(self.ids) + 1)
        box = record["bbox"]
        try:
            x, y, width, height = box
            self.boxes.extend((x, y, width, height))
            self.ids.append(identity)
            self.annotated.append(record["image_id"])
            self.category_ids.append(record["category_id"])
            self.areas.append(record.get("area", nan))
            self.scores.append(nan if record.get("score") is None else record["score"])
            self.crowd.append(record.get("iscrowd") or 0)
        except KeyError as missing:
            raise InputError(f"{self.file}: annotation {identity} has no {missing}") from None
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{self.file}: annotation {identity!r:.40} needs whole numbers for id, image_id, category_id and "
                f"iscrowd (0 or 1), four numbers for bbox and one for score; it has {str(record)[:160]}"
            ) from None

    def _take_image(self, record: dict[str, Any]) -> None:
        name = record["file_name"]
        if not isinstance(name, str):
            raise InputError(f"{self.file}: image {str(record.get('id'))[:40]} has no text as its file_name")
        try:
            self.image_ids.append(record["id"])
            self.widths.append(record.get("width", -1))
            self.heights.append(record.get("height", -1))
            self.file_names.append(name)
        except KeyError:
            raise InputError(f"{self.file}: image {name!r} has no id") from None
        except (TypeError, OverflowError):
            raise InputError(
                f"{self.file}: image {name!r} needs whole numbers for id, width and height; it has {str(record)[:160]}"
            ) from None


def _extend(column: "array[Any]", values: list[Any]) -> None:
    """`column.extend(values)`, which fetches each through an iterator, in a third of its time."""
    try:
        column.frombytes(struct.pack(f"{len(values)}{column.typecode}", *values))
    except struct.error as error:
        raise OverflowError(str(error)) from None
