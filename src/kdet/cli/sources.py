"""Data and images that a user names on the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from kdet.data import FirstPixel, OnBadBox, Source, open_source, recognise
from kdet.data.images import SUFFIXES
from kdet.data.listing import listed, skipped_note
from kdet.errors import InputError
from kdet.files import is_file, is_folder


def open_path(
    path: Path,
    format_name: str | None,
    split: str,
    images: Path | None,
    on_bad_box: str | None,
    first_pixel: FirstPixel = "auto",
) -> Source:
    """A data set by its path; the format is recognised unless it is named.

    Raises:
        InputError: not a data set, or one with errors in it.
    """
    policy = on_bad_box or "fix"
    if policy not in get_args(OnBadBox):
        raise InputError(f"--on-bad-box {on_bad_box}: expected one of {', '.join(get_args(OnBadBox))}")
    name = format_name or recognise(path)
    return open_source(name, path, split=split, images=images, on_bad_box=policy, first_pixel=first_pixel)  # pyright: ignore


def other_split(
    path: Path, format_name: str | None, split: str, images: Path | None, on_bad_box: str | None
) -> Source | None:
    """The split that a folder holds beside this one; None where there is none that can be read."""
    try:
        return open_path(path, format_name, "val" if split == "train" else "train", images, on_bad_box)
    except InputError:
        return None


def first_pixel_of(given: str) -> FirstPixel:
    """The option's text as a value.

    Raises:
        InputError: neither auto nor 0 nor 1.
    """
    choices: dict[str, FirstPixel] = {"auto": "auto", "0": 0, "1": 1}
    if given not in choices:
        raise InputError(f"--first-pixel {given}: expected one of {', '.join(choices)}")
    return choices[given]


def image_files(paths: Sequence[Path], say: Callable[[str], None]) -> list[Path]:
    """Images and the images anywhere below folders, in order; what is skipped is said.

    Raises:
        InputError: a path that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if is_folder(path):
            names, skipped = listed(path, path)
            for note in skipped_note(path, skipped):
                say(note)
            if not names:
                raise InputError(f"{path}: no images in this folder; known are {', '.join(sorted(SUFFIXES))}")
            found += [path / name for name in names]
        elif is_file(path):
            found.append(path)
        else:
            raise InputError(f"{path}: no such image or folder")
    return found
