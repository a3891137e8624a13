"""A YOLO data set's data.yaml: class names, and where the images of a split are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdet.data.images import SUFFIXES
from kdet.data.listing import image_names, missing_rows
from kdet.errors import InputError
from kdet.files import MOST_YAML_BYTES, exists, is_file, is_folder, parse_yaml, read_text

_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation")}


@dataclass(frozen=True)
class Settings:
    """What data.yaml says."""

    file: Path
    content: Mapping[str, Any]
    names: tuple[str, ...]
    """Class names by number."""


def find_yaml(path: Path) -> Path:
    """data.yaml itself, or the one in a folder.

    Raises:
        InputError: there is none.
    """
    if is_file(path):
        return path
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if is_file(path / name):
            return path / name
    raise InputError(f"{path}: no data.yaml; a YOLO data set is that file with images/ and labels/ beside it")


def read_settings(file: Path) -> Settings:
    """Parse data.yaml.

    Raises:
        InputError: no YAML, with tags or aliases, or without class names.
    """
    text = read_text(file, MOST_YAML_BYTES)
    if text is None:
        raise InputError(f"{file}: no such file")
    content = parse_yaml(text, str(file), aliases=False)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected keys such as names, train and val")
    return Settings(file, content, _names(file, content.get("names")))


def images_of(settings: Settings, split: str, images: Path | None) -> tuple[Path, list[str]]:
    """Root folder and image names of a split.

    Raises:
        InputError: the split is not named, or its folder or list has no images.
    """
    base = _base(settings)
    if images is not None:
        places = [images]
    else:
        keys = _SPLIT_KEYS.get(split, (split,))
        given = next((settings.content[key] for key in keys if settings.content.get(key)), None)
        if given is None:
            raise InputError(f"{settings.file}: names no images for {split!r}; expected the key {keys[0]!r}")
        texts = [str(item) for item in (given if isinstance(given, list) else [given])]
        places = [_resolved(base, settings.file.parent, text) for text in texts]
    root = _common_root(base, places)
    names = [name for place in places for name in _names_at(root, place)]
    if not names:
        raise InputError(f"{settings.file}: no images for {split!r} in {', '.join(map(str, places))}")
    if (missing := missing_rows(root, names)).size:
        raise InputError(f"{settings.file}: image {names[int(missing[0])]!r} is not in {root}")
    return root, names


def _names(file: Path, given: Any) -> tuple[str, ...]:
    """Class names from a list, or from a dictionary by number without gaps."""
    if isinstance(given, dict):
        if sorted(map(str, given)) != sorted(map(str, range(len(given)))):
            raise InputError(f"{file}: names must be numbered 0…{len(given) - 1} without gaps, got {list(given)[:20]}")
        given = [given[key] for key in sorted(given, key=int)]
    if not isinstance(given, list) or not all(isinstance(name, str) or type(name) is int for name in given):
        raise InputError(f"{file}: expected class names under 'names', as a list or numbered from 0")
    return tuple(str(name) for name in given)


def _base(settings: Settings) -> Path:
    """The folder that `path` means; a path of somebody else's machine is passed over."""
    beside = settings.file.parent
    base = beside / str(settings.content.get("path") or ".")
    return base if is_folder(base) else beside


def _resolved(base: Path, beside: Path, text: str) -> Path:
    """A folder or list; exports often say ../train/images and mean train/images."""
    shortened = text.removeprefix("../")
    for place in (base / text, beside / text, base / shortened, beside / shortened):
        if exists(place):
            return place
    raise InputError(f"{beside}: data.yaml names {text!r}, which is neither in {base} nor in {beside}")


def _common_root(base: Path, places: list[Path]) -> Path:
    """One folder above everything: the single image folder, else the data set's."""
    if len(places) == 1 and places[0].is_dir():
        return places[0]
    resolved = base.resolve()
    if all(place.resolve().is_relative_to(resolved) for place in places):
        return resolved
    raise InputError(f"{base}: image folders outside of it: {', '.join(map(str, places))}; put them below one folder")


def _names_at(root: Path, place: Path) -> list[str]:
    """Images of a folder, or of a text file that lists them line by line."""
    if place.is_dir():
        return image_names(root, place if place == root else place.resolve())
    if place.suffix.lower() in SUFFIXES:
        raise InputError(f"{place}: expected a folder or a list of images, not an image")
    try:
        text = read_text(place) or ""
    except InputError as problem:
        raise InputError(f"{problem}, so it is no list of images; name a folder, or a text that lists them") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    names: list[str] = []
    for line in lines:
        # "./a.jpg" starts at the list, everything else at the data set's folder; both must end below it.
        full = (place.parent if line.startswith("./") else root) / line
        resolved = full.parent.resolve() / full.name
        if not resolved.is_relative_to(root):
            raise InputError(f"{place}: image {line!r} lies outside {root}")
        names.append(resolved.relative_to(root).as_posix())
    return names
