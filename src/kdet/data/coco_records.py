"""A COCO file's records as columns, taken while the JSON is parsed: no dictionary outlives its closing brace."""

import json
from array import array
from pathlib import Path
from typing import Any

from kdet.errors import InputError
from kdet.files import read_bytes

_IMAGE = "an image's record, taken"
_ANNOTATION = "an annotation's record, taken"


class Records:
    """Columns filled by the JSON decoder, which hands every object over as soon as it ends."""

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
        self.crowd = array("b")
        self.categories: list[Any] = []

    def take(self, record: dict[str, Any]) -> Any:
        """Keep what matters of an image or annotation and leave a mark in its place; pass everything else on."""
        if "bbox" in record and "image_id" in record:
            self._take_annotation(record)
            return _ANNOTATION
        if "file_name" in record:
            self._take_image(record)
            return _IMAGE
        return record

    def _take_annotation(self, record: dict[str, Any]) -> None:
        identity = record.get("id", len(self.ids) + 1)
        box = record["bbox"]
        try:
            x, y, width, height = box
            self.boxes.extend((x, y, width, height))
            self.ids.append(identity)
            self.annotated.append(record["image_id"])
            self.category_ids.append(record["category_id"])
            self.areas.append(record.get("area", float("nan")))
            self.crowd.append(record.get("iscrowd") or 0)
        except KeyError as missing:
            raise InputError(f"{self.file}: annotation {identity} has no {missing}") from None
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{self.file}: annotation {identity!r:.40} needs whole numbers for id, image_id, category_id and "
                f"iscrowd (0 or 1), and four numbers for bbox; it has {str(record)[:160]}"
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


def parse(file: Path) -> Records:
    """The records of a COCO file.

    Raises:
        InputError: unreadable, no JSON, no COCO, or a record with a wrong or missing value.
    """
    records = Records(file)
    try:
        content = json.loads(read_bytes(file) or b"", object_hook=records.take)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{file}: too large for the memory of this machine; divide it") from None
    except RecursionError:
        raise InputError(f"{file}: not COCO; its JSON is nested far too deep") from None
    except ValueError as problem:
        raise InputError(f"{file}: not JSON ({problem})") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: not COCO; expected an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise InputError(f"{file}: not COCO detection annotations; it has no list {key!r}")
    _check_marks(file, content["images"], _IMAGE, len(records.file_names), "file_name")
    _check_marks(file, content["annotations"], _ANNOTATION, len(records.ids), "bbox' and 'image_id")
    records.categories = content["categories"]
    return records


def _check_marks(file: Path, entries: list[Any], mark: str, taken: int, keys: str) -> None:
    """Every entry of a list was taken, and nothing was taken from elsewhere."""
    for i, entry in enumerate(entries):
        if entry is not mark:
            raise InputError(f"{file}: entry {i} has no '{keys}': {str(entry)[:80]}")
    if taken != len(entries):
        raise InputError(f"{file}: records with '{keys}' stand outside their list, too")
