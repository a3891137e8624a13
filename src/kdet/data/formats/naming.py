"""Image names as files give them → names inside the data set's folder, however they are written there."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdet.data.index import Ints
from kdet.data.listing import missing_rows, most_complete
from kdet.errors import InputError, counted
from kdet.files import is_file

_PROBED = 8
"""Number of the first names that are looked for elsewhere."""
HELP = "give names inside it, or name the folder of the images with --images"


@dataclass(frozen=True)
class Located:
    """Images that are there."""

    root: Path
    names: list[str]
    """Relative to `root`, with `/`."""
    notes: tuple[str, ...] = ()


def located(
    file: Path, names: Sequence[str], candidates: Sequence[Path], folder: Path, images: Path | None = None
) -> Located:
    """Return the folder that names are relative to; every one of them is there.

    Args:
        file: what names them, for messages.
        names: as written: with backslashes, absolute, or with `..`.
        candidates: folders that may hold them, all in `folder`.
        folder: of the data set.
        images: the folder that the user named, in place of all these; names are then looked up by their last part
            where they lead out of it.

    Raises:
        InputError: a name that leads out of the data set's folder, or an image that is not there.
    """
    places, top = ([images], images) if images else (list(dict.fromkeys([*candidates, folder])), folder)
    own, notes = _inside(file, names, places, top, given=images is not None)
    root = most_complete(places, own)
    missing = missing_rows(root, own)
    if images and missing.size:
        own, shorter = _by_last_part(file, own, missing, root)
        notes, missing = (*notes, *shorter), missing_rows(root, own)
    elif not missing.size and (other := _elsewhere(own, places, root)):
        notes += (
            f"{file}: images of these names lie in {root} and in {other}; the first are taken, or name others with "
            "--images",
        )
    if missing.size and len(places) > 1:  # in several folders, or named from the data set's folder
        joined = [_below(top, name, places) for name in own]
        if all(joined):
            return Located(top, [name for name in joined if name], notes)
    if missing.size:
        more = f" and {missing.size - 1} more are missing" if missing.size > 1 else ""
        looked = ", ".join(str(place) for place in places if place.is_dir())
        tried = "" if images else f" (looked in {looked}; name another folder with --images)"
        raise InputError(f"{file}: image {own[int(missing[0])]!r} is not in {root}{more}{tried}")
    return Located(root, own, notes)


def check_names(file: Path, names: Sequence[str]) -> None:
    """Refuse image names that leave the data set's folder.

    Raises:
        InputError: an absolute name, or one with `..`.
    """
    if not _suspicious(names):
        return
    for name in names:
        if leaves(name):
            raise InputError(f"{file}: image name {name!r} leaves the data set's folder; {HELP}")


def leaves(name: str) -> bool:
    """Whether a name leads out of a folder, by its text alone."""
    # Plain string tests: a million Path objects would take ten seconds.
    absolute = name[:1] in ("", "/", "\\") or name[1:2] == ":"
    return absolute or "\0" in name or (".." in name and ".." in name.replace("\\", "/").split("/"))


def last_part(name: str) -> str:
    """Return the file's own name, whichever system wrote the path."""
    return name.replace("\\", "/").rpartition("/")[2]


def inside(folder: Path, name: str) -> str | None:
    """Return an absolute name as one relative to the folder that it lies in; None where it does not."""
    try:
        for base in (folder.absolute(), folder.resolve()):
            path = os.path.normpath(name)
            if path.startswith(f"{base}{os.sep}"):
                return Path(path).relative_to(base).as_posix()
    except (OSError, ValueError):
        return None
    return None


def _suspicious(names: Sequence[str]) -> bool:
    # All of them in one text first; only where that is suspicious, one by one.
    text = "\0".join(["", *names, ""])
    return text.count("\0") != len(names) + 1 or any(part in text for part in ("..", ":", "\\", "\0/", "\0\0"))


def _inside(
    file: Path, names: Sequence[str], places: list[Path], top: Path, *, given: bool
) -> tuple[list[str], tuple[str, ...]]:
    """Names that stay inside, and what was done to make them so."""
    if not _suspicious(names):
        return list(names), ()
    own: list[str] = []
    slashed = shortened = 0
    for name in names:
        if "\\" in name and (leaves(name) or not any(is_file(place / name) for place in places)):
            slashed, plain = slashed + 1, name.replace("\\", "/")
        else:
            plain = name
        if leaves(plain):
            found = inside(top, plain)
            if found is None and given and is_file(places[0] / last_part(plain)) and last_part(plain) not in ("", ".."):
                shortened, found = shortened + 1, last_part(plain)
            if found is None:
                at = f", and {places[0]} has none called {last_part(plain)!r}" if given else f"; {HELP}"
                raise InputError(f"{file}: image name {name!r} leaves the data set's folder{at}")
            plain = found
        own.append(plain)
    notes: list[str] = []
    if slashed:
        names_of = counted(slashed, "image name")
        notes.append(f"{file}: {names_of} with backslashes, read as separators (first: {_first(names)!r})")
    if shortened:
        notes.append(_looked_up(file, shortened, places[0]))
    return own, tuple(notes)


def _by_last_part(file: Path, own: list[str], missing: Ints, root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names that stand below other folders than the one that the user named, where it holds what they end in."""
    shorter = {int(row): last_part(own[int(row)]) for row in missing}
    found = {row: name for row, name in shorter.items() if is_file(root / name)}
    first: dict[str, str] = {}
    for row, name in found.items():
        if first.setdefault(name, own[row]) != own[row]:
            raise InputError(
                f"{file}: images {first[name]!r} and {own[row]!r} both end in {name!r}; name the folder above them "
                "with "
                "--images"
            )
    names = [found.get(row, name) for row, name in enumerate(own)]
    return names, (_looked_up(file, len(found), root),) if found else ()


def _looked_up(file: Path, count: int, root: Path) -> str:
    return f"{file}: {counted(count, 'image name')} outside of it, looked up in {root} by their last part"


def _elsewhere(names: Sequence[str], places: Sequence[Path], root: Path) -> Path | None:
    """Another folder that holds other files under all of the first names."""
    probe = names[:_PROBED]
    same = root.resolve()
    for place in places:
        if probe and place.resolve() != same and all(is_file(place / name) for name in probe):
            return None if (place / probe[0]).samefile(root / probe[0]) else place
    return None


def _first(names: Sequence[str]) -> str:
    return next(name for name in names if "\\" in name)


def _below(top: Path, name: str, places: Sequence[Path]) -> str | None:
    """A name relative to the data set's folder, found in any of the folders that may hold it."""
    for place in reversed(places):
        if place.is_relative_to(top) and is_file(place / name):
            return (place.relative_to(top) / name).as_posix()
    return None
