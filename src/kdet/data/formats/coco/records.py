"""A COCO file's records as columns: a million Python objects would fill the memory."""

import re
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import nan
from pathlib import Path
from typing import Any, Literal

import msgspec

from kdet.errors import InputError

IMAGE = "an image's record, taken"
ANNOTATION = "an annotation's record, taken"
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


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


class OddImage(msgspec.Struct, omit_defaults=True):
    """The same with any values, looked at one by one."""

    file_name: Any
    id: Any = msgspec.UNSET
    width: Any = None
    height: Any = None


class OddAnnotation(msgspec.Struct, omit_defaults=True):
    """The same with any values; what else lies in the record is passed over, whatever it is called."""

    image_id: Any
    category_id: Any = msgspec.UNSET
    id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    score: Any = None


class Written(float):
    """A number with the characters that stand in the file: a class may be called 1e3."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "Written":
        made = super().__new__(cls, text)
        made.text = text
        return made


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
        self.image_keys, self.category_keys = Keys(), Keys()
        self.odd_ids = self.odd_areas = 0
        """Annotations whose id is no whole number, and whose area is no number."""

    def take(self, record: dict[str, Any]) -> Any:
        """Keep what matters of an image or annotation and leave a mark in its place; pass everything else on."""
        if "image_id" in record and ("bbox" in record or "category_id" in record):
            self._take_annotation(record)
            return ANNOTATION
        if "file_name" in record:
            self._take_image(record)
            return IMAGE
        return record

    def extend_images(self, block: "Sequence[Image | OddImage]") -> None:
        """Keep images.

        Raises:
            OverflowError: a number of an ordinary one that no column holds.
            InputError: an odd one that cannot be understood.
        """
        if block and isinstance(block[0], OddImage):
            for image in block:
                self._take_image(msgspec.to_builtins(image))
            return
        _extend(self.image_ids, [image.id for image in block])
        _extend(self.widths, [image.width for image in block])
        _extend(self.heights, [image.height for image in block])
        self.file_names += [image.file_name for image in block]

    def extend_annotations(self, block: "Sequence[Annotation | OddAnnotation]") -> None:
        """Keep annotations; raises as `extend_images`."""
        if block and isinstance(block[0], OddAnnotation):
            for one in block:
                self._take_annotation(msgspec.to_builtins(one))
            return
        _extend(self.ids, [one.id for one in block])
        _extend(self.annotated, [one.image_id for one in block])
        _extend(self.category_ids, [one.category_id for one in block])
        _extend(self.boxes, list(chain.from_iterable([one.bbox for one in block])))
        _extend(self.areas, [one.area for one in block])
        _extend(self.scores, [one.score for one in block])
        _extend(self.crowd, [one.iscrowd for one in block])

    def _take_annotation(self, record: dict[str, Any]) -> None:
        said = record.get("id")
        identity = said if type(said) is int and abs(said) < 2**62 else len(self.ids) + 1
        self.odd_ids += type(said) is not int and said is not None
        name = f"annotation {str(said if said is not None else identity)[:40]}"
        try:
            image, category = record["image_id"], record["category_id"]
        except KeyError as missing:
            raise InputError(f"{self.file}: {name} has no {missing}; give it one, or take the entry out") from None
        self.boxes.extend(self._box(name, record))
        self.ids.append(identity)
        self.annotated.append(self._number(self.image_keys, image, name, "image_id"))
        self.category_ids.append(self._number(self.category_keys, category, name, "category_id"))
        area: Any = record.get("area")
        if isinstance(area, bool) or not isinstance(area, int | float):
            self.odd_areas += area is not None
            area = nan
        try:
            self.areas.append(area)
        except OverflowError:
            self.areas.append(nan)
        score = record.get("score")
        if (
            isinstance(score, bool)
            or not isinstance(score, int | float | None)
            or (isinstance(score, int) and score > 1)
        ):
            raise InputError(f"{self.file}: {name} needs a number in 0…1 for score; it has {str(score)[:80]!r}")
        self.scores.append(nan if score is None else score)
        crowd = record.get("iscrowd") or 0
        if crowd not in (0, 1, "0", "1"):
            raise InputError(f"{self.file}: {name} needs 0 or 1 for iscrowd; it has {str(crowd)[:80]!r}")
        self.crowd.append(int(crowd))

    def _box(self, name: str, record: dict[str, Any]) -> tuple[float, ...]:
        """x, y, width, height; NaN where there is none, which is a bad box like any other."""
        box = record.get("bbox")
        if box is None or box == []:
            return (nan,) * 4
        try:
            x, y, width, height = box
            if isinstance(box, str | dict) or any(isinstance(v, bool | str) for v in box):
                raise TypeError
            return float(x), float(y), float(width), float(height)
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{self.file}: {name} needs four numbers (x, y, width, height) for bbox; it has {str(box)[:80]}"
            ) from None

    def _take_image(self, record: dict[str, Any]) -> None:
        name = record["file_name"]
        if not isinstance(name, str):
            raise InputError(
                f"{self.file}: image {str(record.get('id'))[:40]} has no text as its file_name; give it one, or take "
                "it out"
            )
        if "id" not in record:
            raise InputError(f"{self.file}: image {name!r} has no id; give it one")
        shown = f"image {name!r}"
        self.image_ids.append(self._number(self.image_keys, record["id"], shown, "id"))
        for column, key in ((self.widths, "width"), (self.heights, "height")):
            value = record.get(key)
            column.append(-1 if value is None else self._pixels(value, shown, key))
        self.file_names.append(name)

    def _pixels(self, value: Any, name: str, key: str) -> int:
        """A side of an image; numbers that are written as text are numbers."""
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or abs(value) >= 2**31:
            raise InputError(f"{self.file}: {name} needs a whole number for {key}; it has {str(value)[:80]!r}")
        return value

    def _number(self, keys: "Keys", value: Any, name: str, key: str) -> int:
        try:
            return keys.number(value)
        except ValueError:
            raise InputError(
                f"{self.file}: {name} needs a whole number or a text for {key}; it has {str(value)[:80]!r}"
            ) from None


@dataclass
class Keys:
    """Ids are keys: a whole number stands for itself, and every text for a number of its own."""

    texts: dict[str, int] = field(default_factory=dict[str, int])
    """Texts that are no numbers."""
    num_texts: int = 0
    """Ids that were text, those that look like numbers included."""

    def number(self, value: Any) -> int:
        """The number of an id; 7, 7.0 and "7" are one.

        Raises:
            ValueError: neither a whole number that fits nor a text.
        """
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and -(2**62) < value < 2**63:
            return value
        if not isinstance(value, str) or not value:
            raise ValueError(value)
        self.num_texts += 1
        if _WHOLE.fullmatch(value):
            return int(value)
        return self.texts.setdefault(value, -(2**62) - 1 - len(self.texts))


def _extend(column: "array[Any]", values: list[Any]) -> None:
    """`column.extend(values)`, which fetches each through an iterator, in a third of its time."""
    try:
        column.frombytes(struct.pack(f"{len(values)}{column.typecode}", *values))
    except struct.error as error:
        raise OverflowError(str(error)) from None
