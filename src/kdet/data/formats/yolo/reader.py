"""YOLO folders: data.yaml, images/ and labels/ with one text file an image; boxes relative to the image's size.

Where the boxes are a model's, scores/ has a file beside each of labels/, with one score a line. They are not a sixth
number of labels/, for other tools refuse that.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from kdet.data.formats.draft import Draft
from kdet.data.formats.naming import check_names
from kdet.data.formats.validate import OnBadBox, checked
from kdet.data.formats.yolo.data_yaml import Settings, find_settings, read_settings, recognise
from kdet.data.formats.yolo.images import Images, images_of
from kdet.data.formats.yolo.rows import Rows
from kdet.data.images import sizes_of
from kdet.data.index import DetectionIndex
from kdet.errors import InputError, counted
from kdet.files import is_file, is_folder, read_text

__all__ = ["read", "recognise", "write"]
_NO_LABELS = {"classes", "labels", "obj", "train", "valid", "val", "test", "README", "readme", "requirements"}
"""Texts that lie beside labels and are none."""
_MOST_BYTES = 16 * 2**20
"""Largest label file of one image; room for a million boxes."""


class _TextDumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 takes for a number and PyYAML does not, such as 1e3 and 0o7."""


_TextDumper.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|0o[0-7]+"), list("-+.0123456789")
)


@dataclass
class _Columns:
    """What grows while the label files are read."""

    rows: list[int] = field(default_factory=list[int])
    lines: list[int] = field(default_factory=list[int])
    labels: list[int] = field(default_factory=list[int])
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list[tuple[float, float, float, float]])
    """x1 y1 x2 y2 relative to the image."""
    scores: list[float] = field(default_factory=list[float])
    """NaN where there is none."""


def read(
    path: Path,
    *,
    split: str = "train",
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    on_bad_box: OnBadBox = "fix",
) -> DetectionIndex:
    """Read one split of a YOLO data set; outlines (segmentation) become their boxes.

    Args:
        path: data.yaml, obj.data or classes.txt, or the folder that holds it.
        split: "train" or "val".
        images: folder that the images lie below, where that is not the data set's own.
        classes: names in the order of the label files' numbers; by default those of data.yaml.
        on_bad_box: see `OnBadBox`.

    Raises:
        InputError: no data.yaml, no images, a line that is no box, an unknown class number, a bad box.
    """
    file = find_settings(path)
    if file is None:
        raise InputError(
            f"{path}: no data.yaml; a YOLO data set is that file (or Darknet's obj.data, or classes.txt) with images/ "
            "and labels/ beside it"
        )
    settings = read_settings(file)
    class_names = tuple(classes) if classes is not None else settings.names
    found = images_of(settings, split, images)
    check_names(settings.file, found.names)
    label_files = [_file_for(found.root, name, "labels") for name in found.names]
    has_scores = is_folder(_file_for(found.root, "image", "scores").parent)
    columns = _Columns()
    rows = Rows(settings.keypoints, len(class_names))
    for row, label_file in enumerate(label_files):
        _read_labels(label_file, row, rows, columns)
        new = len(columns.rows) - len(columns.scores)
        score_file = _file_for(found.root, found.names[row], "scores")
        columns.scores += _scores(score_file, new) if has_scores else [math.nan] * new
    if not columns.rows and not any(is_file(file) for file in label_files):
        raise InputError(
            f"{settings.file}: no label files; looked for {label_files[0]} and {len(found.names) - 1} others"
        )
    notes = (*found.notes, *rows.notes(settings.file), *_without_image(settings.file, found, label_files))
    return checked(_draft(settings, class_names, found, label_files, columns, notes, classes is not None), on_bad_box)


def write(index: DetectionIndex, folder: Path, *, split: str = "train") -> Path:
    """Write labels/{split}/, scores/{split}/ where there are scores, and data.yaml into a folder.

    YOLO has no crowd regions: they are left out.

    Returns:
        The folder where the images belong, `images/{split}/`.

    Raises:
        InputError: two images differ in nothing but their suffix, or the folder's data.yaml has other classes.
    """
    for i in range(len(index)):
        file = (folder / "labels" / split / index.file_names[i]).with_suffix(".txt")
        if file.exists():
            raise InputError(f"{file}: two images share this name; YOLO needs names that differ without suffix")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(_lines(index, i)), encoding="utf-8")
        if index.scores is not None:
            own = index.objects(i)
            assert own.scores is not None
            file = (folder / "scores" / split / index.file_names[i]).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{score!s}\n" for score in own.scores[~own.crowd]), encoding="utf-8")
    _write_yaml(index, folder / "data.yaml", split)
    return folder / "images" / split


def _without_image(file: Path, found: Images, label_files: list[Path]) -> tuple[str, ...]:
    """One line about label files that belong to no image, which a name spelt otherwise leaves behind."""
    folders = {label.parent: (found.root / name).parent for label, name in zip(label_files, found.names, strict=True)}
    alone: list[str] = []
    for labels, images in folders.items():
        if is_folder(labels):
            known = {Path(entry.name).stem for entry in images.iterdir() if entry.suffix != ".txt"} | _NO_LABELS
            alone += sorted(str(entry) for entry in labels.glob("*.txt") if entry.stem not in known)
    files = counted(len(alone), "label file")
    return (f"{file}: {files} without an image, left out (first: {alone[0]})",) if alone else ()


def _draft(
    settings: Settings,
    classes: tuple[str, ...],
    found: Images,
    label_files: list[Path],
    columns: _Columns,
    notes: tuple[str, ...],
    settled: bool,
) -> Draft:
    root, names = found.root, found.names
    sizes_hw = sizes_of(root, names)
    rows = np.array(columns.rows, np.int64)
    relative = np.array(columns.boxes, np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite, which is refused by name
        boxes_xyxy = relative * sizes_hw[rows][:, [1, 0, 1, 0]]
    return Draft(
        file=settings.file,
        root=root,
        classes=classes,
        image_ids=np.arange(1, len(names) + 1, dtype=np.int64),
        file_names=names,
        sizes_hw=sizes_hw,
        rows=rows,
        boxes_xyxy=boxes_xyxy,
        labels=np.array(columns.labels, np.int64),
        crowd=np.zeros(len(rows), bool),
        areas=np.full(len(rows), np.nan),
        scores=np.array(columns.scores, np.float64),
        entries=np.array(columns.lines, np.int64),
        class_ids=None if settled else tuple(range(len(classes))),
        settled=settled,
        notes=notes,
        outside=": a row counts in shares of the image, 0…1, and these look like pixels",
        describe=lambda row, entry: f"{label_files[row]}:{entry} (image {names[row]!r})",
    )


def _file_for(root: Path, name: str, kind: Literal["labels", "scores"]) -> Path:
    """labels/… for images/…, as YOLO has it: the last folder called images is exchanged."""
    parts = (root / name).with_suffix(".txt").parts
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            return Path(*parts[:place], kind, *parts[place + 1 :])
    return Path(*parts) if kind == "labels" else Path(*parts[:-1], kind, parts[-1])


def _scores(file: Path, count: int) -> list[float]:
    """Those of an image with so many boxes; without a file nothing is said of them."""
    text = read_text(file, _MOST_BYTES)
    if text is None:
        return [math.nan] * count
    try:
        scores = [float(line) for line in text.split()]
    except ValueError:
        raise InputError(f"{file}: expected one score a line; write it anew with `kdet label`") from None
    if len(scores) != count:
        raise InputError(f"{file}: {len(scores)} scores of {count} boxes; write both anew with `kdet label`")
    return scores


def _read_labels(file: Path, row: int, rows: Rows, columns: _Columns) -> None:
    """Add the boxes of one text file; a missing file is an image without objects."""
    text = read_text(file, _MOST_BYTES)
    if text is None:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        label, box = rows.read(f"{file}:{number}", line)
        columns.rows.append(row)
        columns.lines.append(number)
        columns.labels.append(label)
        columns.boxes.append(box)


def _lines(index: DetectionIndex, i: int) -> list[str]:
    own = index.objects(i)
    height, width = index.size_hw(i)
    relative = own.boxes_xyxy.astype(np.float64) / np.array([width, height, width, height])
    lines: list[str] = []
    for (x1, y1, x2, y2), label, crowd in zip(relative.tolist(), own.labels.tolist(), own.crowd.tolist(), strict=True):
        if not crowd:
            lines.append(f"{label} {(x1 + x2) / 2:.12g} {(y1 + y2) / 2:.12g} {x2 - x1:.12g} {y2 - y1:.12g}\n")
    return lines


def _write_yaml(index: DetectionIndex, file: Path, split: str) -> None:
    """Start data.yaml, or add a split to it."""
    content: dict[str, object] = {}
    if file.exists():
        settings: Settings = read_settings(file)
        if settings.names != index.classes:
            raise InputError(f"{file}: has the classes {list(settings.names)}, this split has {list(index.classes)}")
        content |= settings.content
    content |= {split: f"images/{split}", "names": dict(enumerate(index.classes))}
    text = yaml.dump(content, Dumper=_TextDumper, sort_keys=False, allow_unicode=True)
    file.write_text(text, encoding="utf-8")
