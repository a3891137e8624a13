"""Which image files are there: by listing folders, for asking about a million files one by one takes minutes."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kdet.data.images import SUFFIXES
from kdet.data.index import Ints
from kdet.errors import InputError, counted
from kdet.files import is_file, is_folder

_BESIDE = frozenset({".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".md", ".names", ".data", ".cache", ".zip"})
"""What lies beside images and is none."""


def missing_rows(root: Path, names: Sequence[str]) -> Ints:
    """Return the positions of the names that are no files below `root`."""
    folders: dict[str, set[str]] = {}
    missing: list[int] = []
    for row, name in enumerate(names):
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _entries(root / folder)
        # "." and doubled slashes do not stand in a listing; such names are rare enough to ask for one by one.
        if base not in folders[folder] and not is_file(root / name):
            missing.append(row)
    return np.array(missing, np.int64)


def most_complete(candidates: Sequence[Path], names: Sequence[str]) -> Path:
    """Return the folder that holds most of the first names; the first candidate among equals."""
    probe = names[:32]
    return max(candidates, key=lambda folder: sum(is_file(folder / name) for name in probe))


def image_names(root: Path, folder: Path) -> list[str]:
    """Return the images anywhere below a folder, sorted, as names relative to `root`.

    Raises:
        InputError: no such folder.
    """
    return listed(root, folder)[0]


def listed(root: Path, folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the image names, and how many other files of each suffix lie there, without annotations and hidden ones.

    Raises:
        InputError: no such folder.
    """
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder")
    found: list[str] = []
    skipped: Counter[str] = Counter()
    for parent, _, files in os.walk(folder):
        base = Path(parent).relative_to(root)
        for file in files:
            suffix = Path(file).suffix.lower()
            if suffix in SUFFIXES:
                found.append((base / file).as_posix())
            elif not file.startswith(".") and suffix not in _BESIDE:
                skipped[suffix] += 1
    return sorted(found), skipped


def skipped_note(folder: Path, skipped: Mapping[str, int]) -> tuple[str, ...]:
    """Return one line about files that are no images, where there are some."""
    if not skipped:
        return ()
    counts = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(skipped.items()))
    files = counted(sum(skipped.values()), "file")
    return (f"{folder}: {files} skipped, no images that kdet reads: {counts}",)


def _entries(folder: Path) -> set[str]:
    """Names of the files in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()
