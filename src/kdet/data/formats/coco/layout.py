"""Where COCO annotations and their images lie, as the tools that write them lay them out."""

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kdet.data.formats.splits import chosen, is_split
from kdet.data.listing import missing_rows, most_complete
from kdet.errors import InputError
from kdet.files import exists, is_file, size_of

_PLACES = (
    "annotations_*.json",
    "annotations/instances_*.json",
    "annotations/*.json",
    "*.json",
    "*/_annotations.coco.json",
    "*/annotations.json",
    "*/labels.json",
)
"""Places where tools leave annotations; the star is the split."""
_MOST_FOLDERS = 200
"""Below the data set's folder that are looked into for its images."""


def find_annotations(path: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """Return the annotation file that a path means, and what should be said about it.

    Raises:
        InputError: no such path, or a folder without one or without that split; lists what is there.
    """
    if is_file(path):
        return path, ()
    if not exists(path):
        raise InputError(f"{path}: no such file or folder")
    found = _annotations_in(path)
    if not found:
        raise InputError(
            f"{path}: no COCO annotations in this folder; looked for {', '.join(_PLACES)}, or any one JSON"
        )
    return chosen(path, split, found)


def recognise(path: Path) -> bool:
    """Whether a path looks like COCO: a JSON file or a folder with annotations in a usual place."""
    if is_file(path):
        return path.suffix.lower() == ".json"
    return bool(_annotations_in(path))


def _annotations_in(folder: Path) -> dict[str, Path]:
    """Annotation files by the split that their names say; "" where they say none."""
    found: dict[str, Path] = {}
    for place in _PLACES:
        before, after = place.split("*")
        for file in sorted(folder.glob(place)):
            name = file.relative_to(folder).as_posix()[len(before) : -len(after)]
            if is_split(name) or "instances_" in before or before == "annotations_":
                found.setdefault(name, file)
    for inside in (folder, folder / "annotations"):
        if not found:
            files = [file for file in sorted(inside.glob("*.json")) if _has_lists(file)]
            found = {"": files[0]} if len(files) == 1 else {}
    return found


def _has_lists(file: Path) -> bool:
    """Whether a JSON file has COCO's lists, by a look at its text."""
    try:
        if not size_of(file):
            return False
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return all(text.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))
    except (OSError, ValueError):
        return False


def folder_of(file: Path) -> Path:
    """Return the data set's folder."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def image_folders(file: Path, split: str, names: Sequence[str]) -> list[Path]:
    """Return the folders that may hold the images: the usual ones, then all others of the data set."""
    beside, year = file.parent, file.stem.removeprefix("instances_").removeprefix("annotations_")
    above = folder_of(file)
    # The file's own name says more than the split that is asked for: val.json may be named where training data are.
    splits = [year, split] if is_split(year) or above != beside else [split, year]
    usual = [beside / "images", beside, *(beside / "images" / name for name in splits if name)]
    usual += [*(beside / name for name in splits if name), beside / "data"]
    if above != beside:
        usual += [above / year, above / "images" / year, above / "images", above / "images" / split, above / split]
        usual.append(above)
    if missing_rows(most_complete(usual, names[:32]), names[:32]).size:
        usual += folders_below(above)
    return usual


def folders_below(folder: Path) -> list[Path]:
    """Return the folders inside a folder, so many at most, the upper ones first."""
    found, first = [folder], 0
    while first < len(found) < _MOST_FOLDERS:
        with suppress(OSError):
            found += sorted(Path(entry) for entry in os.scandir(found[first]) if entry.is_dir(follow_symlinks=False))
        first += 1
    return found[1:_MOST_FOLDERS]
