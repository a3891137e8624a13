"""A COCO file's text → its records, by blocks: neither the text nor a Python object for each record is held whole.

What is out of the ordinary, be it wrong or merely rare (`NaN`, an annotation without id), is left to Python's own
decoder: slower and larger, but it takes whatever passes for JSON there and knows which record is at fault.
"""

import gc
import json
import mmap
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kdet.data.formats.coco.records import (
    ANNOTATION,
    IMAGE,
    Annotation,
    Image,
    OddAnnotation,
    OddImage,
    Records,
    Written,
)
from kdet.errors import InputError
from kdet.files import size_of

_BLOCK = 2**20
"""Bytes decoded at once; their objects take about three times as much."""
_TRIES = 20
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_Record = TypeVar("_Record")


class _OutOfTheOrdinary(Exception):
    """A file that Python's own decoder has to read."""


def parse(file: Path) -> Records:
    """Return the records of a COCO file.

    Raises:
        InputError: unreadable, no JSON, no COCO, or a record with a wrong or missing value.
    """
    try:
        size_of(file)
        try:
            with _no_collection():
                return _by_blocks(file)
        except (_OutOfTheOrdinary, OverflowError, ValueError):  # msgspec's errors are ValueErrors
            pass
        try:
            return _by_blocks(file, OddImage, OddAnnotation)
        except InputError:
            raise
        except (_OutOfTheOrdinary, OverflowError, ValueError):
            return _record_by_record(file)
    except InputError:
        raise
    except OSError as problem:
        raise InputError(f"{file}: cannot be read ({problem.strerror})") from None
    except MemoryError:
        raise InputError(f"{file}: too large for the memory of this machine; divide it") from None
    except RecursionError:
        raise InputError(f"{file}: not COCO; its JSON is nested far too deep") from None
    except ValueError as problem:
        raise InputError(f"{file}: not JSON ({problem}); mend it, or write it anew as UTF-8") from None


@contextmanager
def _no_collection() -> Generator[None]:
    """Python does not look for cycles meanwhile: it would look through every box of a block, and there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _by_blocks(
    file: Path,
    image: "type[Image] | type[OddImage]" = Image,
    annotation: "type[Annotation] | type[OddAnnotation]" = Annotation,
) -> Records:
    """The records of a file that is as tools write it, or odd in the values alone."""
    records = Records(file)
    with file.open("rb") as opened:
        text = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    parts = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if not {"images", "annotations", "categories"} <= set(parts) or _says_twice(text, parts):
        raise _OutOfTheOrdinary
    _let_go(text)
    for block in _blocks(memoryview(parts.pop("images")), msgspec.json.Decoder(list[image])):
        records.extend_images(block)
    for block in _blocks(memoryview(parts.pop("annotations")), msgspec.json.Decoder(list[annotation])):
        records.extend_annotations(block)
        _let_go(text)
    counts = len(records.file_names), len(records.ids)
    others = {
        key: json.loads(bytes(memoryview(raw)), object_hook=records.take, parse_float=Written)
        for key, raw in parts.items()
    }
    if (len(records.file_names), len(records.ids)) != counts or not isinstance(others["categories"], list):
        raise _OutOfTheOrdinary
    records.categories = others["categories"]
    return records


def _says_twice(text: mmap.mmap, parts: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a list perhaps stands twice, of which the decoder would have kept the last."""
    between = len(text) - sum(len(key) + len(memoryview(raw)) for key, raw in parts.items())
    compact = 1 + 4 * len(parts)  # quotes, colons, commas and the two braces
    if between in (compact, compact + 2 * len(parts) - 1):  # without and with a space after each colon and comma
        return False  # so that every byte is accounted for, and nobody has to search them all
    return any(text.find(key, text.find(key) + 1) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))


def _blocks(entries: memoryview, decoder: msgspec.json.Decoder[list[_Record]]) -> Iterator[list[_Record]]:
    """The entries of a JSON list, so many at a time that their text fills a block."""
    start = 1  # behind the opening bracket
    while len(entries) - start > _BLOCK:
        block, length = _whole_entries(bytes(entries[start : start + _BLOCK]), decoder)
        yield block
        start += length
    yield decoder.decode(b"[" + entries[start:])


def _whole_entries(text: bytes, decoder: msgspec.json.Decoder[list[_Record]]) -> tuple[list[_Record], int]:
    """The entries that end in a text which starts with one, and where the next one starts.

    The cut is guessed and the decoder proves it: inside a string or a nested value the text before it were no list.
    """
    end, tries = len(text), 0
    while tries < _TRIES and (end := text.rfind(b"}", 0, end)) >= 0:
        if between := _BETWEEN.match(text, end):
            tries += 1
            try:
                return decoder.decode(b"[" + text[: end + 1] + b"]"), between.end() - 1
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                continue
    raise _OutOfTheOrdinary


def _let_go(text: mmap.mmap) -> None:
    """Give the pages read so far back, where the system can: they would count as this process' memory."""
    if hasattr(mmap, "MADV_DONTNEED"):
        text.madvise(mmap.MADV_DONTNEED)


def _record_by_record(file: Path) -> Records:
    """The records of any COCO file; no dictionary outlives its closing brace."""
    records = Records(file)
    content = json.loads(file.read_bytes(), object_hook=records.take, parse_float=Written)
    if not isinstance(content, dict):
        raise InputError(f"{file}: not COCO; expected an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise InputError(f"{file}: not COCO detection annotations; it has no list {key!r}")
    _check_marks(file, content["images"], IMAGE, len(records.file_names), "file_name")
    _check_marks(file, content["annotations"], ANNOTATION, len(records.ids), "bbox' and 'image_id")
    records.categories = content["categories"]
    return records


def _check_marks(file: Path, entries: list[Any], mark: str, taken: int, keys: str) -> None:
    """Every entry of a list was taken, and nothing was taken from elsewhere."""
    for i, entry in enumerate(entries):
        if entry is not mark:
            raise InputError(f"{file}: entry {i} has no '{keys}', give it one or take it out: {str(entry)[:80]}")
    if taken != len(entries):
        raise InputError(f"{file}: records with '{keys}' stand outside their list, too; take those out")
