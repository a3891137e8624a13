"""Data and images that a user names on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from kdet.data import OnBadBox, Source, open_source, recognise
from kdet.errors import InputError
from kdet.files import is_file, is_folder

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def open_path(path: Path, format_name: str | None, split: str, images: Path | None, on_bad_box: str | None) -> Source:
    """A data set by its path; the format is recognised unless it is named.

    Raises:
        InputError: not a data set, or one with errors in it.
    """
    policy = on_bad_box or "fix"
    if policy not in get_args(OnBadBox):
        raise InputError(f"--on-bad-box {on_bad_box}: expected one of {', '.join(get_args(OnBadBox))}")
    name = format_name or recognise(path)
    return open_source(name, path, split=split, images=images, on_bad_box=policy)  # pyright: ignore


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Images and the images of folders, in order.

    Raises:
        InputError: a path that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if is_folder(path):
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise InputError(f"{path}: no images in this folder; known are {', '.join(sorted(IMAGE_SUFFIXES))}")
            found += inside
        elif is_file(path):
            found.append(path)
        else:
            raise InputError(f"{path}: no such image or folder")
    return found
