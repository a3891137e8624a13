"""The user's text files → plain values: nothing is built or run, nothing grows beyond its file, faults are one line."""

import json
import stat
from pathlib import Path
from typing import Any

import yaml

from kdet.errors import InputError, one_line

MOST_YAML_BYTES = 2**20
_MOST_VALUES = 100_000
"""Most values of a YAML file once its aliases are written out; eleven lines can stand for a billion."""
_MOST_DEEP = 24
"""Lists and mappings inside one another; the time that PyYAML takes grows with the square."""


def is_file(path: Path) -> bool:
    """Whether a path is a file; a name that the system cannot even look up is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """The same for a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """The same for anything at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def size_of(path: Path) -> int:
    """Return the size of a plain file in bytes.

    Raises:
        InputError: a folder, a pipe or a device, which might never end.
        OSError: no such file.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: not a plain file; name one")
    return about.st_size


def read_bytes(path: Path, most: int | None = None) -> bytes | None:
    """Return the content of a plain file, at most so many bytes; None where there is no such file.

    Raises:
        InputError: a folder, a pipe or a device, larger, or not to be read.
    """
    try:
        size = size_of(path)
        if most is not None and size > most:
            raise InputError(f"{path}: larger than any such file, {size:,} bytes; expected at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except MemoryError:
        raise InputError(f"{path}: too large for the memory of this machine; divide it") from None


def read_text(path: Path, most: int | None = None) -> str | None:
    """Read a plain file as text.

    Raises:
        InputError: as there, or not UTF-8.
    """
    content = read_bytes(path, most)
    try:
        return None if content is None else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: cannot be read as UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


def parse_yaml(text: str, where: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader, *, aliases: bool = True) -> Any:
    """Parse plain values out of YAML.

    Args:
        text: one document.
        where: begins every message.
        loader: a safe one.
        aliases: whether `*name` is allowed.

    Raises:
        InputError: no YAML, a tag, nested too deep, or too large once its aliases are written out.
    """
    try:
        _check_size(text, where, aliases)
        return yaml.load(text, loader)
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        said = str(error.problem or error.context)
        # PyYAML's own errors are of kinds of their own; a loader of ours says what it means.
        raise InputError(
            f"{where}{line}: {said if type(error) is yaml.MarkedYAMLError else f'not YAML ({said}); mend it'}"
        ) from None
    except Exception as error:  # !!bool maybe, 2026-13-99, 0x_: PyYAML stumbles over each in another way
        raise InputError(
            f"{where}: not a YAML file ({type(error).__name__}: {one_line(error)[:200]}); mend what is named"
        ) from None


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse plain values out of JSON.

    Raises:
        InputError: no JSON, nested too deep, or a number too large to be one.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON (line {error.lineno}: {error.msg}); mend it, or write it anew") from None
    except RecursionError:
        raise InputError(f"{where}: not JSON that is meant (nested far too deep); write it anew") from None
    except ValueError as error:  # an integer of thousands of digits, bytes that are no text
        raise InputError(f"{where}: not JSON ({one_line(error)}); mend it, or write it anew as UTF-8") from None


def _check_size(text: str, where: str, aliases: bool) -> None:
    """Refuse what a few lines can blow up, before anything is built of it."""
    total, sizes = 0, dict[str, int]()
    inside: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, yaml.SafeLoader):
        match event:
            case yaml.AliasEvent():
                if not aliases:
                    raise InputError(f"{where}: YAML aliases are refused; write the values out")
                if any(anchor == event.anchor for anchor, _ in inside):
                    raise InputError(
                        f"{where}: the YAML alias *{event.anchor} stands inside itself; write the values out"
                    )
                total += sizes.get(event.anchor, 0)
            case yaml.ScalarEvent():
                total += 1
                sizes[str(event.anchor)] = 1
            case yaml.CollectionStartEvent():
                inside.append((event.anchor, total))
                total += 1
            case yaml.CollectionEndEvent():
                anchor, before = inside.pop()
                sizes[str(anchor)] = total - before
            case _:
                pass
        if len(inside) > _MOST_DEEP:
            raise InputError(f"{where}: YAML nested far too deep, more than {_MOST_DEEP} lists or mappings in another")
        if total > _MOST_VALUES:
            raise InputError(f"{where}: YAML of more than {_MOST_VALUES:,} values; its aliases multiply, write less")
