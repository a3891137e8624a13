"""`_annotations.csv` as Roboflow and TensorFlow's tools write it: a row a box, images beside the file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdet.data.formats.draft import Draft
from kdet.data.formats.naming import located
from kdet.data.formats.splits import chosen, is_split
from kdet.data.formats.validate import OnBadBox, checked
from kdet.data.images import sizes_of
from kdet.data.index import DetectionIndex
from kdet.data.listing import listed, skipped_note
from kdet.errors import InputError, counted
from kdet.files import exists, is_file, read_text

_NAME = "_annotations.csv"
_COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_NUMBERS = ("width", "height", "xmin", "ymin", "xmax", "ymax")
_BETWEEN = (",", ";", "\t")
_MOST_BYTES = 2**28


@dataclass
class _Columns:
    """What grows while the file is read."""

    names: list[str] = field(default_factory=list[str])
    sizes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Width and height as stated; 0 where they are not."""
    classes: list[str] = field(default_factory=list[str])
    boxes: list[tuple[float, ...]] = field(default_factory=list[tuple[float, ...]])
    lines: list[int] = field(default_factory=list[int])


def read(
    path: Path,
    *,
    split: str = "train",
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    on_bad_box: OnBadBox = "fix",
) -> DetectionIndex:
    """Read one split; images that no row names and that lie beside the file hold no object.

    Args:
        path: the CSV, or a folder that holds it, itself or in split folders.
        split: which split folder.
        images: the image folder; by default that of the file.
        classes: the names and their order; by default all of the file's, sorted.
        on_bad_box: see `OnBadBox`.

    Raises:
        InputError: no such file, columns that are missing, a row without numbers, a missing image, a bad box.
    """
    file, notes = _find(path, split)
    columns = _parse(file)
    found = located(file, columns.names, [file.parent, file.parent / "images"], file.parent, images)
    there, skipped = listed(found.root, found.root)
    names = sorted({*there, *found.names})
    rows = {name: row for row, name in enumerate(names)}
    of = np.array([rows[name] for name in found.names], np.int64)
    if empty := len(names) - len(set(found.names)):
        notes += (f"{file}: {counted(empty, 'image')} that no row names, taken for images without objects",)
    sizes = np.zeros((len(names), 2), np.int32)
    differ = set[int]()
    for row, (width, height) in zip(of.tolist(), columns.sizes, strict=True):
        if sizes[row].any() and (height, width) != tuple(sizes[row]):
            differ.add(row)
        sizes[row] = (height, width)
    unsaid = [row for row in range(len(names)) if row in differ or not sizes[row].all()]
    sizes[unsaid] = sizes_of(found.root, [names[row] for row in unsaid])
    if differ:
        first = names[min(differ)]
        notes += (
            f"{file}: {counted(len(differ), 'image')} with several sizes, that of the file is taken (first: {first!r})",
        )
    class_names = tuple(classes) if classes is not None else tuple(sorted(set(columns.classes)))
    labels = {name: label for label, name in enumerate(class_names)}
    for name, line in zip(columns.classes, columns.lines, strict=True):
        if name not in labels:
            raise InputError(f"{file}:{line}: class {name!r} is none of {list(class_names)}")
    draft = Draft(
        file=file,
        root=found.root,
        classes=class_names,
        image_ids=np.arange(1, len(names) + 1, dtype=np.int64),
        file_names=names,
        sizes_hw=sizes,
        rows=of,
        boxes_xyxy=np.array(columns.boxes, np.float64).reshape(-1, 4),
        labels=np.array([labels[name] for name in columns.classes], np.int64),
        crowd=np.zeros(len(of), bool),
        areas=np.full(len(of), np.nan),
        scores=np.full(len(of), np.nan),
        entries=np.array(columns.lines, np.int64),
        describe=lambda row, entry: f"{file}:{entry} (image {names[row]!r})",
        settled=classes is not None,
        notes=(*notes, *found.notes, *skipped_note(found.root, skipped)),
    )
    return checked(draft, on_bad_box)


def write(index: DetectionIndex, folder: Path, *, split: str = "train") -> Path:
    """Write `{split}/_annotations.csv`; crowd regions are left out, and images without objects are those without rows.

    Returns:
        The folder where the images belong, `{split}/`.
    """
    base = folder / split
    base.mkdir(parents=True, exist_ok=True)
    with (base / _NAME).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for i in range(len(index)):
            own, (height, width) = index.objects(i), index.size_hw(i)
            for box, label, crowd in zip(own.boxes_xyxy, own.labels.tolist(), own.crowd.tolist(), strict=True):
                if not crowd:
                    rows.writerow([index.file_names[i], width, height, index.classes[label], *(str(v) for v in box)])
    return base


def recognise(path: Path) -> bool:
    """Whether a path looks like this: a CSV file, or a folder with `_annotations.csv`."""
    return path.suffix.lower() == ".csv" if is_file(path) else bool(_files_in(path))


def _find(path: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    if is_file(path):
        return path, ()
    if not exists(path):
        raise InputError(f"{path}: no such file or folder")
    if not (found := _files_in(path)):
        raise InputError(f"{path}: no {_NAME} in this folder or in its split folders; name the CSV file")
    return chosen(path, split, found)


def _files_in(folder: Path) -> dict[str, Path]:
    found = {file.parent.name: file for file in sorted(folder.glob(f"*/{_NAME}")) if is_split(file.parent.name)}
    if not found and is_file(folder / _NAME):
        found[""] = folder / _NAME
    return found


def _parse(file: Path) -> _Columns:
    """The rows of a file whose first line names its columns, in any order; `;` and tabs, too, as spreadsheets write."""
    text = read_text(file, _MOST_BYTES) or ""
    first = text.partition("\n")[0]
    between = max(_BETWEEN, key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=between)
    columns = _Columns()
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if missing := [name for name in _COLUMNS if name not in header and name not in ("width", "height")]:
            raise InputError(f"{file}:1: has no column {missing[0]!r}; expected {','.join(_COLUMNS)}")
        places = {name: header.index(name) for name in _COLUMNS if name in header}
        for row in rows:
            if any(cell.strip() for cell in row):
                _take(f"{file}:{rows.line_num}", row, places, columns, comma=between == ";")
                columns.lines.append(rows.line_num)
    except csv.Error as problem:
        raise InputError(f"{file}:{rows.line_num}: not a CSV file ({problem})") from None
    return columns


def _take(where: str, row: list[str], places: dict[str, int], columns: _Columns, *, comma: bool) -> None:
    """One row; `comma`: whether 8,5 is a number, as where `;` divides."""
    try:
        values = {name: row[place].strip() for name, place in places.items()}
        own = {side: values.get(side, "").replace(",", ".") if comma else values.get(side, "") for side in _NUMBERS}
        box = tuple(float(own[side]) for side in ("xmin", "ymin", "xmax", "ymax"))
        width, height = (float(own[side] or 0) for side in ("width", "height"))
        if not (width.is_integer() and height.is_integer()):
            raise ValueError
    except (IndexError, ValueError, OverflowError):
        raise InputError(f"{where}: expected whole width and height, and four numbers, got {row[:8]}") from None
    if not values["class"] or not 0 <= max(width, height) < 2**31 or min(width, height) < 0:
        raise InputError(f"{where}: expected a class and the image's size, got {row[:8]}")
    columns.names.append(values["filename"])
    columns.classes.append(values["class"])
    columns.boxes.append(box)
    columns.sizes.append((int(width), int(height)))
