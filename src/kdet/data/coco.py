"""COCO JSON: read and write. `coco_parse.py` takes the records from the text, `coco_records.py` knows their looks."""

import ctypes
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from kdet.data.coco_parse import parse
from kdet.data.coco_records import Records
from kdet.data.images import read_size_hw
from kdet.data.index import DetectionIndex, Ints
from kdet.data.listing import missing_rows, most_complete
from kdet.data.validate import Draft, OnBadBox, check_names, check_unique, checked, rows_of
from kdet.errors import InputError
from kdet.files import exists, is_file

_MANY_BOXES = 1_000_000
"""From here on what reading has freed is worth giving back."""


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
    file = find_annotations(path, split)
    index = checked(_draft(file, split, images, classes), on_bad_box)
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
        json.dump([{"id": label + 1, "name": name} for label, name in enumerate(index.classes)], file)
        _write_list(file, "images", _image_entries(index))
        _write_list(file, "annotations", _annotation_entries(index))
        file.write("}\n")
    return folder / "images"


def find_annotations(path: Path, split: str) -> Path:
    """The annotation file that a path means.

    Raises:
        InputError: no such path, or a folder without one; lists the places looked at.
    """
    if is_file(path):
        return path
    if not exists(path):
        raise InputError(f"{path}: no such file or folder")
    patterns = [
        f"annotations_{split}.json",
        f"annotations/instances_{split}*.json",
        f"annotations/{split}.json",
        f"{split}.json",
        f"{split}/_annotations.coco.json",
        "annotations.json",
        "_annotations.coco.json",
    ]
    if split == "val":
        patterns.insert(5, "valid/_annotations.coco.json")
    for pattern in patterns:
        if found := sorted(path.glob(pattern)):
            return found[0]
    raise InputError(f"{path}: no COCO annotations for {split!r} in this folder; looked for {', '.join(patterns)}")


def recognise(path: Path) -> bool:
    """Whether a path looks like COCO: a JSON file or a folder with annotations in a usual place."""
    if is_file(path):
        return path.suffix.lower() == ".json"
    try:
        return any(find_annotations(path, split).is_file() for split in ("train", "val"))
    except InputError:
        return False


def _give_memory_back() -> None:
    """glibc keeps what was freed until it is asked; other C libraries need no asking."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _categories(file: Path, entries: list[Any], classes: Sequence[str] | None) -> tuple[tuple[str, ...], Ints]:
    """Class names, and the category id of each."""
    pairs: list[tuple[int, str]] = []
    for i, entry in enumerate(entries):
        identity, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(identity) is not int or abs(identity) >= 2**62 or not isinstance(name, str):
            raise InputError(f"{file}: categories entry {i} has no whole 'id' and 'name': {str(entry)[:80]}")
        pairs.append((identity, name))
    ids = np.array([identity for identity, _ in pairs], np.int64)
    check_unique(file, ids, "category id")
    if classes is None:
        return tuple(name for _, name in pairs), ids
    by_name = {name: identity for identity, name in pairs}
    if missing := sorted(set(by_name) - set(classes)):
        raise InputError(f"{file}: has classes {missing} that the given list {list(classes)} lacks")
    unused = min([0, *ids.tolist()]) - 1
    return tuple(classes), np.array([by_name.get(name, unused - i) for i, name in enumerate(classes)], np.int64)


def _draft(file: Path, split: str, images: Path | None, classes: Sequence[str] | None) -> Draft:
    """What the file says; the records themselves are gone when it is checked."""
    records = parse(file)
    names, category_ids = _categories(file, records.categories, classes)
    image_ids, ids = np.frombuffer(records.image_ids, np.int64), np.frombuffer(records.ids, np.int64)
    check_unique(file, image_ids, "image id")
    check_unique(file, ids, "annotation id")
    file_names = records.file_names
    check_names(file, file_names)
    root = _image_root(file, split, images, file_names)
    rows = rows_of(image_ids, np.frombuffer(records.annotated, np.int64))
    labels = rows_of(category_ids, np.frombuffer(records.category_ids, np.int64))
    _check_references(file, records, rows, labels)
    boxes_xyxy = np.frombuffer(records.boxes, np.float64).reshape(-1, 4)  # of no use to anybody else
    with np.errstate(over="ignore"):  # 1e308 + 1e308 becomes infinite, which is refused by name
        boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    return Draft(
        file=file,
        root=root,
        classes=names,
        image_ids=image_ids,
        file_names=file_names,
        sizes_hw=_sizes_hw(records, root),
        rows=rows,
        boxes_xyxy=boxes_xyxy,
        labels=labels,
        crowd=np.frombuffer(records.crowd, bool),
        areas=np.frombuffer(records.areas, np.float64),
        scores=np.frombuffer(records.scores, np.float64),
        entries=ids,
        describe=lambda row, entry: f"{file}: annotation {entry} (image {file_names[row]!r})",
    )


def _check_references(file: Path, records: Records, rows: Ints, labels: Ints) -> None:
    """Every annotation is of an image and a category that exist."""
    for found, wanted, what in ((rows, records.annotated, "image"), (labels, records.category_ids, "category")):
        if (unknown := np.flatnonzero(found < 0)).size:
            i = int(unknown[0])
            more = f" ({unknown.size - 1} more like it)" if unknown.size > 1 else ""
            raise InputError(
                f"{file}: annotation {records.ids[i]} is of {what} {wanted[i]}, which the file does not have{more}"
            )


def _image_root(file: Path, split: str, images: Path | None, names: list[str]) -> Path:
    """The folder that the file names are relative to; every one of them is there."""
    beside = file.parent
    candidates = [beside / "images", beside, beside / "images" / split, beside / split]
    if beside.name == "annotations":
        year = file.stem.removeprefix("instances_")
        above = beside.parent
        candidates += [above / year, above / "images" / year, above / "images", above / "images" / split, above / split]
        candidates.append(above)
    root = images or most_complete(candidates, names)
    if (missing := missing_rows(root, names)).size:
        more = f" and {missing.size - 1} more are missing" if missing.size > 1 else ""
        tried = "" if images else f" (looked in {', '.join(str(c) for c in candidates if c.is_dir())})"
        raise InputError(f"{file}: image {names[int(missing[0])]!r} is not in {root}{more}{tried}")
    return root


def _sizes_hw(records: Records, root: Path) -> NDArray[np.int32]:
    """Sizes as stated; where the file states none, from the image's header."""
    sizes = np.array([records.heights, records.widths], np.int32).T.copy()
    for row in np.flatnonzero((sizes < 0).any(axis=1)):
        sizes[row] = read_size_hw(root / records.file_names[int(row)])
    return sizes


def _image_entries(index: DetectionIndex) -> Iterator[dict[str, Any]]:
    for i in range(len(index)):
        height, width = index.size_hw(i)
        yield {"id": int(index.image_ids[i]), "file_name": index.file_names[i], "width": width, "height": height}


def _annotation_entries(index: DetectionIndex) -> Iterator[dict[str, Any]]:
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
                "category_id": label + 1,
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
