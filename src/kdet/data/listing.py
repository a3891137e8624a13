"""Which image files are there: by listing folders, for asking about a million files one by one takes minutes."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdet.data.images import SUFFIXES
from kdet.data.index import Ints
from kdet.errors import InputError
from kdet.files import is_file, is_folder


def missing_rows(root: Path, names: Sequence[str]) -> Ints:
    """Positions of the names that are no files below `root`."""
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
    """The folder that holds most of the first names; the first candidate among equals."""
    probe = names[:32]
    return max(candidates, key=lambda folder: sum(is_file(folder / name) for name in probe))


def image_names(root: Path, folder: Path) -> list[str]:
    """Images anywhere below a folder, sorted, as names relative to `root`.

    Raises:
        InputError: no such folder.
    """
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder")
    found: list[str] = []
    for parent, _, files in os.walk(folder):
        base = Path(parent).relative_to(root)
        found += [(base / file).as_posix() for file in files if Path(file).suffix.lower() in SUFFIXES]
    return sorted(found)


def _entries(folder: Path) -> set[str]:
    """Names of the files in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()
