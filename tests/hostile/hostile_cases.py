"""What all tables of this folder share: how a case is run, and what must hold of every one of them."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdet.data import open_source
from kdet.errors import InputError
from patience import deadline

Words = str | tuple[str, ...]
"""What the message must say, all of it."""
SECONDS = 60
"""Of the processor. No case takes one; the limit is for what would never end."""


def assert_refused(act: Callable[[], object], folder: Path, words: Words, *, seconds: int = SECONDS) -> None:
    """InputError of one printable line with these words, in time; whatever lies in the folder stays as it was."""
    before = contents(folder)
    with deadline(seconds), pytest.raises(InputError) as caught:
        act()
    assert contents(folder) == before
    message = str(caught.value)
    assert message.isprintable() and 10 < len(message) <= 2000, message
    for word in (words,) if isinstance(words, str) else words:
        assert word in message, message


def read_or_refuse(act: Callable[[], object], *, seconds: int = SECONDS) -> bool:
    """Either it works, or it is refused by one line; anything else fails the test. Whether it worked."""
    try:
        with deadline(seconds):
            act()
    except InputError as problem:
        assert str(problem).isprintable(), problem
        return False
    return True


def read_everything(format: str, path: Path) -> int:
    """Open a data set as the commands do, and decode every image; how many boxes it has."""
    source = open_source(format, path)
    for i in range(len(source.index)):
        source.read(i)
    return len(source.index.labels)


def contents(folder: Path) -> dict[str, str]:
    """Every path below a folder with a digest of what it holds."""
    return {str(path.relative_to(folder)): _digest(path) for path in folder.rglob("*")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def put(path: Path, content: str | bytes) -> Path:
    """Write a file, its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def pipe(path: Path) -> Path:
    """A named pipe: whoever opens it to read waits for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path
