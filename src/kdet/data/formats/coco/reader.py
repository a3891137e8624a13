"""COCO JSON: read and write. `coco_parse.py` takes the records from the text, `coco_records.py` knows their looks."""

import ctypes
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from kdet.data.formats.coco.layout import find_annotations, folder_of, image_folders, recognise
from kdet.data.formats.coco.parse import parse
from kdet.data.formats.coco.records import Records, Written
from kdet.data.formats.draft import Draft
from kdet.data.formats.naming import Located, located
from kdet.data.formats.validate import OnBadBox, check_unique, checked, rows_of
from kdet.data.images import sizes_of
from kdet.data.index import DetectionIndex, Ints
from kdet.errors import InputError, counted

__all__ = ["read", "recognise", "write"]
_MANY_BOXES = 1_000_000
"""Number of boxes from which on it is worth giving back what reading has freed."""


def read(
    path: Path,
    *,
    split: str = "train",
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    on_bad_box: OnBadBox = "fix",
) -> DetectionIndex:
    """Read an annotation file, or the one of a split in a folder.

    Args:
        path: the JSON, or a folder that holds it in one of the usual places.
        split: which file of a folder; matters for a folder only.
        images: the image folder; by default it is searched beside the annotations.
        classes: the names and their order; by default the file's categories in the file's order.
        on_bad_box: see `OnBadBox`.

    Raises:
        InputError: not COCO, an entry that refers to nothing, a missing image, a bad box.
    """
    file, notes = find_annotations(path, split)
    draft = _draft(file, split, images, classes)
    index = checked(replace(draft, notes=(*notes, *draft.notes)), on_bad_box)
    if len(index.labels) > _MANY_BOXES:
        _give_memory_back()
    return index


def write(index: DetectionIndex, folder: Path, *, split: str = "train") -> Path:
    """Write `annotations_{split}.json` into a folder.

    Returns:
        The folder where the images belong, `images/`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"annotations_{split}.json").open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "written by kdet"},\n"categories": ')
        json.dump([{"id": i, "name": name} for i, name in zip(_ids(index), index.classes, strict=True)], file)
        _write_list(file, "images", _image_entries(index))
        _write_list(file, "annotations", _annotation_entries(index))
        file.write("}\n")
    return folder / "images"


def _give_memory_back() -> None:
    """glibc keeps what was freed until it is asked; other C libraries need no asking."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


@dataclass(frozen=True)
class _Categories:
    """The file's classes."""

    names: tuple[str, ...]
    ids: Ints
    """Ids that the annotations use; a class that the file does not have gets one that no annotation uses."""
    roots: frozenset[int]
    """Those that only group others."""


def _categories(file: Path, records: Records, classes: Sequence[str] | None) -> _Categories:
    """Class names, and the category id of each."""
    pairs: list[tuple[int, str]] = []
    groups: list[tuple[object, str]] = []
    for i, entry in enumerate(records.categories):
        name, group = (entry.get("name", []), entry.get("supercategory")) if isinstance(entry, dict) else ([], None)
        try:
            identity = records.category_keys.number(entry.get("id"))
        except (AttributeError, ValueError):
            identity = None
        name = _text(name)
        if identity is None or name is None:
            raise InputError(
                f"{file}: categories entry {i} has no 'id' and 'name' that can be read; give it both: {str(entry)[:80]}"
            )
        pairs.append((identity, name))
        groups.append((group, name))
    ids = np.array([identity for identity, _ in pairs], np.int64)
    check_unique(file, ids, "category id")
    if classes is None:
        names = tuple(name for _, name in pairs)
        return _Categories(names, ids, frozenset(i for i in range(len(groups)) if _is_root(groups, i)))
    by_name = {name: identity for identity, name in pairs}
    used = set(records.category_ids) if set(by_name) - set(classes) else set[int]()
    if missing := sorted(name for identity, name in pairs if name not in classes and identity in used):
        raise InputError(f"{file}: has classes {missing} that the given list {list(classes)} lacks")
    unused = min([0, *ids.tolist()]) - 1
    numbers = [by_name.get(name, unused - i) for i, name in enumerate(classes)]
    return _Categories(tuple(classes), np.array(numbers, np.int64), frozenset())


def _text(name: Any) -> str | None:
    """A name is what stands there, be it a number or a truth value; spaces around it are nobody's meaning."""
    if isinstance(name, str):
        return name.strip()
    if isinstance(name, Written):
        return name.text
    return json.dumps(name) if isinstance(name, int | float | None) else None


def _is_root(groups: list[tuple[object, str]], i: int) -> bool:
    """Whether a category belongs to none and others belong to it."""
    group, name = groups[i]
    return group in (None, "", "none") and any(other == name for k, (other, _) in enumerate(groups) if k != i)


def _draft(file: Path, split: str, images: Path | None, classes: Sequence[str] | None) -> Draft:
    """What the file says; the records themselves are gone when it is checked."""
    records = parse(file)
    categories = _categories(file, records, classes)
    image_ids, ids = np.frombuffer(records.image_ids, np.int64), np.frombuffer(records.ids, np.int64)
    check_unique(file, image_ids, "image id")
    found = located(file, records.file_names, image_folders(file, split, records.file_names), folder_of(file), images)
    rows = rows_of(image_ids, np.frombuffer(records.annotated, np.int64))
    labels = rows_of(categories.ids, np.frombuffer(records.category_ids, np.int64))
    _check_references(file, records, rows, labels)
    boxes_xyxy = np.frombuffer(records.boxes, np.float64).reshape(-1, 4)  # of no use to anybody else
    with np.errstate(over="ignore"):  # 1e308 + 1e308 becomes infinite, which is refused by name
        boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    return Draft(
        file=file,
        root=found.root,
        classes=categories.names,
        class_ids=tuple(categories.ids.tolist()) if classes is None and not records.category_keys.texts else None,
        roots=categories.roots,
        settled=classes is not None,
        # Ids that are texts have numbers which mean nothing to anybody.
        image_ids=np.arange(1, len(image_ids) + 1, dtype=np.int64) if records.image_keys.texts else image_ids,
        file_names=found.names,
        sizes_hw=_sizes_hw(records, found),
        rows=rows,
        boxes_xyxy=boxes_xyxy,
        labels=labels,
        crowd=np.frombuffer(records.crowd, bool),
        areas=np.frombuffer(records.areas, np.float64),
        scores=np.frombuffer(records.scores, np.float64),
        entries=ids,
        describe=lambda row, entry: f"{file}: annotation {entry} (image {found.names[row]!r})",
        boxless="its 'bbox' is missing or empty; boxes are not made from a 'segmentation'",
        notes=(*found.notes, *_said_once(file, records, ids)),
    )


def _said_once(file: Path, records: Records, ids: Ints) -> Iterator[str]:
    """What is odd in a file and makes no difference."""
    if texts := records.image_keys.texts:
        shown = repr(next(iter(texts)))
        yield f"{file}: image ids are texts (such as {shown}), so the images are numbered in the file's order"
    elif records.image_keys.num_texts or records.category_keys.num_texts:
        yield f"{file}: ids are written as text, and read as the numbers that they are"
    if records.odd_ids:
        yield f"{file}: {counted(records.odd_ids, 'annotation id')} of no whole number; nothing depends on them"
    elif again := len(ids) - len(np.unique(ids)):
        yield f"{file}: {counted(again, 'annotation id')} given twice; nothing depends on them"
    if records.odd_areas:
        yield f"{file}: {counted(records.odd_areas, 'annotation')} whose 'area' is no number; that of the box is taken"
    if again := len(records.file_names) - len(set(records.file_names)):
        yield f"{file}: {counted(again, 'image')} listed twice, under two ids"


def _check_references(file: Path, records: Records, rows: Ints, labels: Ints) -> None:
    """Every annotation is of an image and a category that exist."""
    for found, wanted, what, keys in (
        (rows, records.annotated, "image", records.image_keys),
        (labels, records.category_ids, "category", records.category_keys),
    ):
        if (unknown := np.flatnonzero(found < 0)).size:
            i = int(unknown[0])
            more = f" ({unknown.size - 1} more like it)" if unknown.size > 1 else ""
            name = next((repr(text) for text, number in keys.texts.items() if number == wanted[i]), wanted[i])
            raise InputError(
                f"{file}: annotation {records.ids[i]} is of {what} {name}, which the file does not have{more}; add "
                "it, or "
                "take out the annotation"
            )


def _sizes_hw(records: Records, found: Located) -> NDArray[np.int32]:
    """Sizes as stated; where the file states none, from the image's header."""
    sizes = np.array([records.heights, records.widths], np.int32).T.copy()
    unsaid = np.flatnonzero((sizes < 0).any(axis=1))
    sizes[unsaid] = sizes_of(found.root, [found.names[int(row)] for row in unsaid])
    return sizes


def _image_entries(index: DetectionIndex) -> Iterator[dict[str, Any]]:
    for i in range(len(index)):
        height, width = index.size_hw(i)
        yield {"id": int(index.image_ids[i]), "file_name": index.file_names[i], "width": width, "height": height}


def _ids(index: DetectionIndex) -> Sequence[int]:
    """Category ids: those that the data came with, else from 1 on."""
    return index.class_ids or range(1, len(index.classes) + 1)


def _annotation_entries(index: DetectionIndex) -> Iterator[dict[str, Any]]:
    ids = _ids(index)
    for i in range(len(index)):
        own, start = index.objects(i), int(index.offsets[i])
        for k, (box, label, crowd, area) in enumerate(
            zip(own.boxes_xyxy, own.labels.tolist(), own.crowd.tolist(), own.areas, strict=True)
        ):
            # The shortest decimals that give the same float32 again; what ten digits cannot hold is far below that.
            x1, y1, x2, y2 = (float(str(value)) for value in box)
            score = {} if own.scores is None else {"score": float(str(own.scores[k]))}
            yield {
                "id": start + k + 1,
                "image_id": int(index.image_ids[i]),
                "category_id": ids[label],
                "bbox": [x1, y1, round(x2 - x1, 10), round(y2 - y1, 10)],
                "area": float(str(area)),
                "iscrowd": int(crowd),
                **score,
            }


def _write_list(file: TextIO, name: str, entries: Iterator[dict[str, Any]]) -> None:
    """One entry a line, without holding them all."""
    file.write(f',\n"{name}": [')
    for i, entry in enumerate(entries):
        file.write(("\n" if i == 0 else ",\n") + json.dumps(entry))
    file.write("]")
