"""Pascal VOC folders: read and write. VOC counts pixels from 1 and includes the last one, but for the tools that count
from 0; here and only here."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from kdet.data.formats.draft import Draft
from kdet.data.formats.validate import OnBadBox, checked
from kdet.data.formats.voc.layout import folder_of, images_of, layout, recognise
from kdet.data.formats.voc.xml import Annotation, Thing, parse, render
from kdet.data.images import sizes_of
from kdet.data.index import DetectionIndex, Ints
from kdet.errors import InputError
from kdet.files import read_text

__all__ = ["FirstPixel", "read", "recognise", "write"]
FirstPixel = Literal["auto", 0, 1]
"""Number of the first pixel in a VOC data set."""
_MOST_BYTES = 2**20


def read(
    path: Path,
    *,
    split: str = "train",
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    on_bad_box: OnBadBox = "fix",
    first_pixel: FirstPixel = "auto",
) -> DetectionIndex:
    """Read one split of a VOC folder, or a plain folder of XML files beside their images.

    Objects marked `difficult` become crowd: ignored in training, neither hit nor miss in evaluation.

    Args:
        path: folder with Annotations/, JPEGImages/ and ImageSets/Main/{split}.txt, or such a list itself.
        split: which list, of a folder; without lists, every XML file counts, and split folders (`train/`, `val/`) are
            looked into.
        images: image folder; by default JPEGImages/, images/ or beside the XML files.
        classes: names and their order; by default all names of both splits, sorted.
        on_bad_box: see `OnBadBox`.
        first_pixel: from which number its pixels are counted; auto: from 0 where a box begins at 0 in any of its files
            or CVAT wrote them, else from 1.

    Raises:
        InputError: no XML, broken XML, unknown class, a missing image, a bad box.
    """
    own = layout(path, split, images)
    found = [parse(file) for file in own.files]
    others = [parse(file) for file in own.others]
    files = [*zip(own.files, found, strict=True), *zip(own.others, others, strict=True)]
    first, how = _first_pixel(path, files, first_pixel)
    class_names = tuple(classes) if classes is not None else _classes([*found, *others])
    names, notes = images_of(path, own, found)
    draft = _draft(path, own.images, class_names, names, own.files, found, first)
    notes = (*own.notes, *notes, *([how] if how else []))
    return checked(replace(draft, settled=classes is not None, notes=notes), on_bad_box)


def write(index: DetectionIndex, folder: Path, *, split: str = "train") -> Path:
    """Write Annotations/ and ImageSets/Main/{split}.txt into a folder; crowd regions become `difficult`.

    Returns:
        The folder where the images belong, `JPEGImages/`.

    Raises:
        InputError: two images differ in nothing but their suffix.
    """
    stems: list[str] = []
    for i in range(len(index)):
        name, own = index.file_names[i], index.objects(i)
        stem = Path(name).with_suffix("").as_posix()
        file = folder / "Annotations" / f"{stem}.xml"
        if file.exists():
            raise InputError(f"{file}: two images are called {stem!r}; VOC needs names that differ without suffix")
        things = [
            Thing(index.classes[label], _shifted(box), bool(crowd))
            for box, label, crowd in zip(own.boxes_xyxy, own.labels.tolist(), own.crowd.tolist(), strict=True)
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        ET.ElementTree(render(name, index.size_hw(i), things)).write(file, encoding="utf-8")
        stems.append(stem)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return folder / "JPEGImages"


def _draft(
    path: Path,
    root: Path,
    classes: tuple[str, ...],
    names: list[str],
    files: list[Path],
    found: list[Annotation],
    first_pixel: int,
) -> Draft:
    placed = [(row, number, thing) for row, a in enumerate(found) for number, thing in enumerate(a.things, 1)]
    corners = np.array([thing.corners for _, _, thing in placed], np.float64).reshape(-1, 4)
    sizes = np.array([a.size_hw or (0, 0) for a in found], np.int32).reshape(-1, 2)
    unsaid = np.flatnonzero((sizes == 0).any(axis=1))
    sizes[unsaid] = sizes_of(root, [names[int(row)] for row in unsaid])
    return Draft(
        file=path,
        root=root,
        classes=classes,
        image_ids=np.arange(1, len(names) + 1, dtype=np.int64),
        file_names=names,
        sizes_hw=sizes,
        rows=np.array([row for row, _, _ in placed], np.int64),
        # Counted from 1, the first pixel begins at 0, and the last one, number n, ends at n. Tools that count from 0
        # write where a box begins and ends.
        boxes_xyxy=corners - np.array([first_pixel, first_pixel, 0, 0]),
        first_pixel=first_pixel,
        labels=_labels(classes, files, placed),
        crowd=np.array([thing.difficult for _, _, thing in placed], bool),
        areas=np.full(len(corners), np.nan),
        scores=np.full(len(corners), np.nan),
        entries=np.array([number for _, number, _ in placed], np.int64),
        describe=lambda row, entry: f"{files[row]}: object {entry} (image {names[row]!r})",
    )


def _labels(classes: tuple[str, ...], files: list[Path], placed: list[tuple[int, int, Thing]]) -> Ints:
    """Class names as labels; every name is known."""
    label_of = {name: label for label, name in enumerate(classes)}
    for row, number, thing in placed:
        if thing.name not in label_of:
            raise InputError(f"{files[row]}: object {number} is of class {thing.name!r}, not one of {list(classes)}")
    return np.array([label_of[thing.name] for _, _, thing in placed], np.int64)


def _first_pixel(path: Path, files: Sequence[tuple[Path, Annotation]], given: FirstPixel) -> tuple[int, str]:
    """Find the number of the first pixel, and say how it is known."""
    if given != "auto":
        return given, f"{path}: pixels are counted from {given}, as `first_pixel` says"
    for file, annotation in files:
        for number, thing in enumerate(annotation.things, 1):
            if any(0 <= corner < 1 for corner in thing.corners[:2]):
                return 0, (
                    f"{path}: object {number} of {file.name} begins at pixel 0, so pixels are counted from 0 in all "
                    "of its files; `first_pixel: 1` if that is wrong"
                )
    if _from_datumaro(folder_of(path)):
        return 0, (
            f"{path}: labelmap.txt is that of CVAT and datumaro, which count pixels from 0; `first_pixel: 1` if "
            "that is wrong"
        )
    return 1, ""


def _from_datumaro(path: Path) -> bool:
    """Whether the folder was written by datumaro, on which CVAT's export stands."""
    try:
        return "label:color_rgb" in (read_text(path / "labelmap.txt", _MOST_BYTES) or "")
    except InputError:
        return False


def _classes(found: Sequence[Annotation]) -> tuple[str, ...]:
    """Names of all splits, so that they get equal labels."""
    return tuple(sorted({thing.name for annotation in found for thing in annotation.things}))


def _shifted(box: np.ndarray) -> tuple[float, float, float, float]:
    """A 0-based box as VOC counts; the shortest decimals that give the same float32 again."""
    x1, y1, x2, y2 = (float(str(value)) for value in box)
    return round(x1 + 1, 10), round(y1 + 1, 10), x2, y2
