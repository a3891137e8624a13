"""Pascal VOC folders: read and write. VOC counts pixels from 1 and includes the last one; here and only here."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdet.data.images import SUFFIXES, read_size_hw
from kdet.data.index import DetectionIndex, Ints
from kdet.data.listing import missing_rows
from kdet.data.naming import check_names
from kdet.data.validate import Draft, OnBadBox, checked
from kdet.data.voc_xml import Annotation, Thing, parse, render
from kdet.errors import InputError
from kdet.files import is_file, is_folder

_SPLIT_NAMES = {"train": ("train", "trainval"), "val": ("val", "test")}


def read(
    path: Path,
    *,
    split: str = "train",
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    on_bad_box: OnBadBox = "fix",
) -> DetectionIndex:
    """Read one split of a VOC folder, or a plain folder of XML files beside their images.

    Objects marked `difficult` become crowd: ignored in training, neither hit nor miss in evaluation.

    Args:
        path: folder with Annotations/, JPEGImages/ and ImageSets/Main/{split}.txt.
        split: which list; without lists, every XML file counts, and split folders (`train/`, `val/`) are looked into.
        images: image folder; by default JPEGImages/, images/ or beside the XML files.
        classes: names and their order; by default all names of both splits, sorted.
        on_bad_box: see `OnBadBox`.

    Raises:
        InputError: no XML, broken XML, unknown class, a missing image, a bad box.
    """
    annotations, image_folder, stems, listed = _layout(path, split, images)
    files = [annotations / f"{stem}.xml" for stem in stems]
    found = [parse(file) for file in files]
    class_names = tuple(classes) if classes is not None else _all_classes(annotations, found, listed)
    names = _image_names(path, image_folder, stems, found)
    return checked(_draft(path, image_folder, class_names, names, files, found), on_bad_box)


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


def recognise(path: Path) -> bool:
    """Whether a path looks like VOC: a folder with Annotations/, or with XML files."""
    if not is_folder(path):
        return False
    folders = (path, path / "Annotations", path / "train", path / "val")
    return any(next(folder.glob("*.xml"), None) is not None for folder in folders if folder.is_dir())


def _draft(
    path: Path, root: Path, classes: tuple[str, ...], names: list[str], files: list[Path], found: list[Annotation]
) -> Draft:
    placed = [(row, number, thing) for row, a in enumerate(found) for number, thing in enumerate(a.things, 1)]
    corners = np.array([thing.corners for _, _, thing in placed], np.float64).reshape(-1, 4)
    sizes = [a.size_hw or read_size_hw(root / name) for a, name in zip(found, names, strict=True)]
    return Draft(
        file=path,
        root=root,
        classes=classes,
        image_ids=np.arange(1, len(names) + 1, dtype=np.int64),
        file_names=names,
        sizes_hw=np.array(sizes, np.int32).reshape(-1, 2),
        rows=np.array([row for row, _, _ in placed], np.int64),
        # The first pixel is number 1 and begins at 0; the last one, number n, ends at n.
        boxes_xyxy=corners - np.array([1, 1, 0, 0]),
        labels=_labels(classes, files, placed),
        crowd=np.array([thing.difficult for _, _, thing in placed], bool),
        areas=np.full(len(corners), np.nan),
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


def _layout(path: Path, split: str, images: Path | None) -> tuple[Path, Path, list[str], bool]:
    """Folder of the XML files, folder of the images, stems of the split, and whether a list chose them."""
    if not is_folder(path):
        raise InputError(f"{path}: no such folder; VOC data are a folder with Annotations/ and JPEGImages/")
    lists = path / "ImageSets" / "Main"
    if lists.is_dir():
        for name in _SPLIT_NAMES.get(split, (split,)):
            if (file := lists / f"{name}.txt").is_file():
                stems = [line.split()[0] for line in file.read_text("utf-8", "replace").splitlines() if line.strip()]
                check_names(file, stems)
                return path / "Annotations", images or _image_folder(path), stems, True
        raise InputError(f"{lists}: no list for {split!r}; looked for {split}.txt, found {_listing(lists)}")
    choices = (split, "valid") if split == "val" else (split,)
    base = next((path / name for name in choices if (path / name).is_dir()), path)
    annotations = base / "Annotations" if (base / "Annotations").is_dir() else base
    stems = sorted(file.relative_to(annotations).with_suffix("").as_posix() for file in annotations.rglob("*.xml"))
    if not stems:
        raise InputError(f"{annotations}: no XML files; VOC data are a folder with Annotations/ and JPEGImages/")
    return annotations, images or _image_folder(base), stems, False


def _image_folder(base: Path) -> Path:
    return next((base / name for name in ("JPEGImages", "images") if (base / name).is_dir()), base)


def _listing(folder: Path) -> str:
    return ", ".join(sorted(file.name for file in folder.glob("*.txt"))[:8]) or "none"


def _image_names(path: Path, folder: Path, stems: list[str], found: list[Annotation]) -> list[str]:
    """The image of each XML file: as it says itself, or else of the same stem; many tools leave wrong names."""
    stated = [_stated_name(stem, annotation) for stem, annotation in zip(stems, found, strict=True)]
    check_names(path, stated)
    for row in missing_rows(folder, stated).tolist():
        same_stem = [f"{stems[row]}{end}" for suffix in sorted(SUFFIXES) for end in (suffix, suffix.upper())]
        name = next((name for name in same_stem if is_file(folder / name)), None)
        if name is None:
            raise InputError(f"{path}: image {stated[row]!r} of {stems[row]}.xml is not in {folder}")
        stated[row] = name
    return stated


def _stated_name(stem: str, annotation: Annotation) -> str:
    """An XML file in a subfolder speaks of the image in the same subfolder."""
    name = annotation.file_name or f"{stem}.jpg"
    parent = stem.rpartition("/")[0]
    return f"{parent}/{name}" if parent and "/" not in name else name


def _all_classes(annotations: Path, found: list[Annotation], listed: bool) -> tuple[str, ...]:
    """Names of the split, and where a list chose the split of all other files, too: both splits get equal labels."""
    others = [parse(file) for file in annotations.rglob("*.xml")] if listed else []
    return tuple(sorted({thing.name for annotation in (*found, *others) for thing in annotation.things}))


def _shifted(box: np.ndarray) -> tuple[float, float, float, float]:
    """A 0-based box as VOC counts; the shortest decimals that give the same float32 again."""
    x1, y1, x2, y2 = (float(str(value)) for value in box)
    return round(x1 + 1, 10), round(y1 + 1, 10), x2, y2
