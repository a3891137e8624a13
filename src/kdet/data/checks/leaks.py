"""Images that are in both splits: AP on them flatters every model."""

import hashlib
from collections import defaultdict
from pathlib import Path

from kdet.data.source import Source, on_disk
from kdet.errors import counted

_BLOCK = 2**20


def shared_images(train: Source, val: Source) -> list[tuple[str, str]]:
    """Return pairs of a training and a validation image that are one file, or have the same content."""
    if not (on_disk(train) and on_disk(val)):
        return []
    ours, theirs = _files(train), _files(val)
    pairs = [(path, path) for path in theirs if path in ours]
    # Files of one content have one length; only those are read.
    by_length: dict[int, list[str]] = defaultdict(list)
    for path in ours:
        by_length[_length(path)].append(path)
    known: dict[str, bytes] = {}
    for path in theirs:
        same_length = [] if path in ours else by_length.get(_length(path), [])
        for other in same_length:
            for one in (path, other):
                known.setdefault(one, _digest(one))
            if known[path] == known[other]:
                pairs.append((other, path))
                break
    return pairs


def leak(train: Source, val: Source) -> str | None:
    """Return one line about shared images, or nothing."""
    pairs = shared_images(train, val)
    if not pairs:
        return None
    ours, theirs = pairs[0]
    first = theirs if ours == theirs else f"{theirs} has the content of {ours}"
    images = counted(len(val.index), "validation image")
    return (
        f"{len(pairs)} of the {images} are training images too, so AP would flatter every model; "
        f"let no image, and no scene, be in both (first: {first})"
    )


def _files(source: Source) -> dict[str, None]:
    """Resolved paths, in order."""
    index = source.index
    folders: dict[str, str] = {}
    found: dict[str, None] = {}
    for i in range(len(index)):
        folder, _, name = str(index.image(i)).rpartition("/")
        if folder not in folders:
            folders[folder] = str(Path(folder).resolve())
        found[f"{folders[folder]}/{name}"] = None
    return found


def _length(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def _digest(path: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return path.encode()
    return digest.digest()
