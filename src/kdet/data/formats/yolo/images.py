"""Which images a YOLO data set's split has, and what is said of where they lie."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdet.data.formats.naming import inside, leaves
from kdet.data.formats.splits import chosen
from kdet.data.formats.yolo.data_yaml import Settings, splits_of
from kdet.data.images import SUFFIXES
from kdet.data.listing import listed, missing_rows, skipped_note
from kdet.errors import InputError, counted
from kdet.files import exists, is_file, is_folder, read_text


@dataclass(frozen=True)
class Images:
    """The images of a split."""

    root: Path
    names: list[str]
    """Relative to `root`."""
    notes: tuple[str, ...]


def images_of(settings: Settings, split: str, images: Path | None) -> Images:
    """Return the root folder and image names of a split.

    Args:
        settings: what describes the data set.
        split: which of its splits.
        images: a folder that all of them lie below; where it holds nothing of what is named, all images in it.

    Raises:
        InputError: the split is not named, or its folder or list has no images.
    """
    base, notes = _base(settings)
    found = splits_of(settings)
    if images is not None and not found:
        given: Any = []
    elif not found:
        raise InputError(f"{settings.file}: names no images for {split!r}; expected the key {split!r}")
    else:
        given, said = chosen(settings.file, split, found)
        notes += said
    texts = [str(item).replace("\\", "/") for item in (given if isinstance(given, list) else [given])]
    if images is None:
        places = [_resolved(settings, base, text) for text in texts]
        root = _common_root(settings, base, places, split)
    else:
        root = images.resolve() if is_folder(images) else images
        places = [place for text in texts if (place := _within(root, settings, base, text))] or [root]
        if len(places) < len(texts) or places == [root]:
            notes += (f"{images}: all images in it are read for {split!r}",)
            places = [root]
    names: list[str] = []
    skipped: Counter[str] = Counter()
    for place in places:
        own, others = _names_at(root, place, settings)
        names += own
        skipped += others
    if not names:
        shown = ", ".join(map(str, places))
        raise InputError(
            f"{settings.file}: no images for {split!r} in {shown}{_shown(skipped)}; name their folder with --images"
        )
    notes += skipped_note(places[0], skipped)
    once = list(dict.fromkeys(names))
    if again := len(names) - len(once):
        first = next(name for name, count in Counter(names).items() if count > 1)
        notes += (
            f"{settings.file}: {counted(again, 'image')} listed twice for {split!r}, read once (first: {first!r})",
        )
    if (missing := missing_rows(root, once)).size:
        more = f", and {missing.size - 1} more are missing" if missing.size > 1 else ""
        raise InputError(f"{settings.file}: image {once[int(missing[0])]!r} is not in {root}{more}")
    return Images(root, once, notes)


def _base(settings: Settings) -> tuple[Path, tuple[str, ...]]:
    """The folder that `path` means; a path of somebody else's machine is passed over, with a note."""
    beside = settings.file.parent
    given = str(settings.content.get("path") or ".")
    given = "." if given in ("~", "null") else given
    base = beside / (Path.home() / given[2:] if given.startswith("~/") else given.replace("\\", "/"))
    if is_folder(base):
        return base, ()
    return beside, (f"{settings.file}: path: {given[:200]!r} is not there; the folder of this file is taken for it",)


def _resolved(settings: Settings, base: Path, text: str) -> Path:
    """A folder or list; exports often say ../train/images and mean train/images, or data/x and mean x."""
    beside = settings.file.parent
    parts = text.removeprefix("../").split("/")
    for place in (base / text, beside / text):
        if exists(place):
            return place
    tails = ["/".join(parts[start:]) for start in range(min(2, len(parts)))] if not text.startswith("/") else []
    for tail in tails:
        for place in (base / tail, beside / tail):
            if tail and exists(place):
                return place
    stated = str(settings.content.get("path") or "")
    lost = (
        f" (its path: {stated[:200]!r} is not there)" if base == beside and stated not in ("", ".", "~", "null") else ""
    )
    looked = str(beside) if base == beside else f"{base} nor in {beside}"
    raise InputError(
        f"{beside}: {settings.file.name} names {text!r}, which is not in {looked}{lost}; mend it, or name the folder "
        "of "
        "the images with --images"
    )


def _within(root: Path, settings: Settings, base: Path, text: str) -> Path | None:
    """A folder or list that lies in the folder that the user named, or a list that lies beside the settings."""
    for place in (base / text, settings.file.parent / text):
        if exists(place) and (place.resolve().is_relative_to(root) or is_file(place)):
            return place.resolve()
    return None


def _common_root(settings: Settings, base: Path, places: list[Path], split: str) -> Path:
    """One folder above everything: the single image folder, else the data set's."""
    if len(places) == 1 and places[0].is_dir():
        return places[0]
    resolved = base.resolve()
    if all(place.resolve().is_relative_to(resolved) for place in places):
        return resolved
    above = os.path.commonpath([place.resolve() for place in places])
    raise InputError(
        f"{settings.file}: {split}: folders outside of it, {', '.join(map(str, places))}; name the folder above all of "
        f"them with --images {above}"
    )


def _names_at(root: Path, place: Path, settings: Settings) -> tuple[list[str], Counter[str]]:
    """Images of a folder, or of a text file that lists them line by line, and what else lies there."""
    if place.is_dir():
        return listed(root, place if place == root else place.resolve())
    if place.suffix.lower() in SUFFIXES:
        raise InputError(f"{place}: expected a folder or a list of images, not an image")
    try:
        text = read_text(place) or ""
    except InputError as problem:
        raise InputError(f"{problem}, so it is no list of images; name a folder, or a text that lists them") from None
    lines = (line.strip().replace("\\", "/") for line in text.splitlines())
    return [_name_in_list(root, place, line) for line in lines if line], Counter()


def _name_in_list(root: Path, place: Path, line: str) -> str:
    """A line of a list as a name below the root: "./a.jpg" starts at the list, all else at the data set's folder."""
    if not leaves(line) or line.startswith("./"):
        full = (place.parent if line.startswith("./") else root) / line
        resolved = full.parent.resolve() / full.name
        if resolved.is_relative_to(root):
            name = resolved.relative_to(root).as_posix()
            # CVAT's lists say data/… of what lies beside them.
            tail = name.partition("/")[2]
            return tail if tail and not is_file(root / name) and is_file(root / tail) else name
    elif (found := inside(root, line)) is not None:
        return found
    raise InputError(
        f"{place}: image {line!r} lies outside {root}; write it as a name inside, or name the folder that holds the "
        "images with --images"
    )


def _shown(skipped: Counter[str]) -> str:
    if not skipped:
        return ""
    return "; what lies there is " + ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
