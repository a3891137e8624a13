"""What describes a YOLO data set: data.yaml under any of its names, Darknet's obj.data, or classes.txt alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kdet.data.formats.splits import NAMES, is_split
from kdet.data.images import SUFFIXES
from kdet.errors import InputError
from kdet.files import MOST_YAML_BYTES, is_file, is_folder, parse_yaml, read_text

_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "config.yaml")
_DARKNET_NAMES = ("obj.data", "data.data")
_NAME_LISTS = ("classes.txt", "obj.names", "labels.txt")
_MOST_KEYPOINTS = 1000
_NOTHING: tuple[Any, ...] = ("", "~", "null", "Null", "NULL", [])


class _TextLoader(yaml.SafeLoader):
    """Safe loading in which every plain word is text: `on`, `7`, `1e3`, `12:30` are names as they stand there."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]


@dataclass(frozen=True)
class Settings:
    """What it says."""

    file: Path
    content: Mapping[str, Any]
    """Texts, lists and mappings of texts."""
    names: tuple[str, ...]
    """Class names by number."""

    @property
    def keypoints(self) -> tuple[int, int] | None:
        """Number of keypoints behind each box and of numbers for each, from `kpt_shape`; None without it.

        Raises:
            InputError: it is neither [K, 2] nor [K, 3].
        """
        given = self.content.get("kpt_shape")
        if given is None:
            return None
        texts = given if isinstance(given, list) else []
        if len(texts) != 2 or not all(isinstance(t, str) and re.fullmatch("[0-9]{1,4}", t) for t in texts):
            raise InputError(f"{self.file}: kpt_shape: expected [number of keypoints, 2 or 3], got {str(given)[:80]}")
        count, width = int(texts[0]), int(texts[1])
        if width not in (2, 3) or not 1 <= count <= _MOST_KEYPOINTS:
            raise InputError(f"{self.file}: kpt_shape: expected [number of keypoints, 2 or 3], got {str(given)[:80]}")
        return count, width


def find_settings(path: Path) -> Path | None:
    """Return the file that describes a data set: itself, or the one in a folder; None where there is none."""
    if is_file(path):
        return path
    for name in (*_YAML_NAMES, *_DARKNET_NAMES):
        if is_file(path / name):
            return path / name
    if is_folder(path):
        others = [file for end in ("*.yaml", "*.yml") for file in sorted(path.glob(end)) if _has_names(file)]
        if len(others) == 1:
            return others[0]
    for name in _NAME_LISTS:
        inner = ("images", "labels", *_split_folders(path))
        if is_file(path / name) and (any((path / folder).is_dir() for folder in inner) or _labels_beside(path)):
            return path / name
    return None


def _labels_beside(folder: Path) -> bool:
    """Whether a folder holds images with a label file beside them, as labelImg leaves them."""
    texts = {file.stem for file in folder.glob("*.txt")}
    return any(file.stem in texts and file.suffix.lower() in SUFFIXES for file in folder.iterdir())


def recognise(path: Path) -> bool:
    """Whether a path looks like YOLO: what describes such a data set, or a folder that holds it."""
    if is_file(path):
        return path.suffix.lower() in (".yaml", ".yml", ".data") or path.name in _NAME_LISTS
    return find_settings(path) is not None


def read_settings(file: Path) -> Settings:
    """Parse what describes a data set.

    Raises:
        InputError: no YAML, with tags or aliases, or without class names.
    """
    text = read_text(file, MOST_YAML_BYTES)
    if text is None:
        raise InputError(f"{file}: no such file")
    if file.suffix.lower() == ".data":
        return _darknet(file, text)
    if file.suffix.lower() in (".txt", ".names"):
        return Settings(file, _folders(file.parent), _lines(file, text))
    content = parse_yaml(text, str(file), _TextLoader, aliases=False)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected keys such as names, train and val")
    return Settings(file, content, _names(file, content))


def _darknet(file: Path, text: str) -> Settings:
    """`key = value` lines; the names lie in a file of their own, whose folder is often not the one that is named."""
    pairs = (line.partition("=") for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    content = {key.strip(): value.strip() for key, _, value in pairs}
    named = content.pop("names", "obj.names").replace("\\", "/")
    for place in (named, named.rpartition("/")[2]):
        if not place.startswith("/") and ".." not in place.split("/") and is_file(file.parent / place):
            names = file.parent / place
            return Settings(file, content, _lines(names, read_text(names, MOST_YAML_BYTES) or ""))
    raise InputError(f"{file}: names: there is no {named!r} beside it; put the list of class names there")


def _lines(file: Path, text: str) -> tuple[str, ...]:
    """Class names line by line; a blank line in the middle is a class without a name."""
    names = [line.strip() for line in text.strip("\r\n").splitlines()]
    if not names or not all(names):
        raise InputError(f"{file}: expected one class name a line, and no empty line")
    return tuple(names)


def _folders(base: Path) -> dict[str, Any]:
    """Folders of the images where nothing names them: `images/train`, `train/images`, or `images` for all."""
    found = {name: f"images/{name}" for name in _split_folders(base / "images")}
    found |= {name: f"{name}/images" for name in _split_folders(base) if (base / name / "images").is_dir()}
    return found or {"": "images" if (base / "images").is_dir() else "."}


def _split_folders(base: Path) -> list[str]:
    if not is_folder(base):
        return []
    return sorted(entry.name for entry in base.iterdir() if entry.is_dir() and is_split(entry.name))


def splits_of(settings: Settings) -> dict[str, Any]:
    """Return what stands under the keys that are splits."""
    known = {name for names in NAMES.values() for name in names} | {""}
    return {
        key: value for key, value in settings.content.items() if str(key).lower() in known and value not in _NOTHING
    }


def _names(file: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names from a list, or from a dictionary by number without gaps."""
    given = content.get("names")
    if isinstance(given, dict):
        given = {
            key.lstrip("0") or "0" if isinstance(key, str) and key.isdecimal() else key: given[key] for key in given
        }
        if sorted(map(str, given)) != sorted(map(str, range(len(given)))):
            raise InputError(f"{file}: names must be numbered 0…{len(given) - 1} without gaps, got {list(given)[:20]}")
        given = [given[key] for key in sorted(given, key=int)]
    if given == []:
        raise InputError(f"{file}: names: none of the classes is named; expected a list, or names numbered from 0")
    if not isinstance(given, list) or not all(isinstance(name, str) and name.strip() for name in given):
        raise InputError(f"{file}: expected class names under 'names', as a list or numbered from 0")
    count = content.get("nc")
    if isinstance(count, str) and count.isdecimal() and int(count) != len(given):
        raise InputError(f"{file}: nc: {count} classes, but 'names' has {len(given)}; mend one of them")
    return tuple(name.strip() for name in given)


def _has_names(file: Path) -> bool:
    try:
        return re.search(r"(?m)^names\s*:", read_text(file, MOST_YAML_BYTES) or "") is not None
    except InputError:
        return False
