"""Tensors under names, as files of a folder that says what they depend on."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdet.errors import InputError, WorkError
from kdet.files import parse_json, read_text
from kdet.tensor_file import save_tensors

_ABOUT = "cache.json"
_ENTRY = "answer"
"""Key of the header's JSON."""


class TensorFolder:
    """What a teacher's `cache:` holds; each entry is a file that is there whole or not at all."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Open or begin a folder.

        Args:
            folder: may be there already, with entries that depend on the same.
            about: JSON that says what the entries depend on.

        Raises:
            InputError: the folder holds something else, or cannot be used.
        """
        self.folder = folder
        wanted = json.loads(json.dumps(about))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / _ABOUT).exists():
                self._require_same(parse_json(read_text(folder / _ABOUT) or "", str(folder / _ABOUT)), wanted)
            elif any(not path.name.startswith(".") for path in folder.iterdir()):  # another process' new file is
                raise InputError(f"{folder}: holds files that are no teacher cache; give `cache:` a folder of its own")
            else:
                text = json.dumps(wanted, indent=1)
                _write(folder / _ABOUT, lambda new: new.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{folder}: cannot be used as a teacher cache ({error})") from None

    def _require_same(self, known: Any, wanted: Mapping[str, Any]) -> None:
        if not isinstance(known, dict):
            raise InputError(f"{self.folder / _ABOUT}: not a JSON object; delete the folder, and it is made anew")
        for key in wanted:
            if known.get(key) != wanted[key]:  # pyright: ignore[reportUnknownMemberType]
                raise InputError(
                    f"{self.folder}: a cache of something else, made with {key} {known.get(key)!r}; "  # pyright: ignore
                    f"this run has {wanted[key]!r}; give `cache:` another folder, or delete this one"
                )

    def has(self, name: str) -> bool:
        """Whether something stands under a name."""
        return self._path(name).exists()

    def load(self, name: str, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], Any] | None:
        """Tensors and JSON under a name; None where nothing stands, or what a crash of the machine left is broken."""
        try:
            with safe_open(self._path(name), "pt", device=str(device)) as file:
                about = json.loads(file.metadata()[_ENTRY])
                return {key: file.get_tensor(key) for key in list(file.keys())}, about
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def save(self, name: str, tensors: Mapping[str, Tensor], about: Any) -> int:
        """Put tensors and JSON under a name; returns their bytes.

        Raises:
            WorkError: the disk is full or cannot be written.
        """
        path = self._path(name)
        try:
            path.parent.mkdir(exist_ok=True)
            _write(path, lambda new: save_tensors(dict(tensors), new, metadata={_ENTRY: json.dumps(about)}))
            return path.stat().st_size
        except (OSError, SafetensorError) as error:
            raise WorkError(
                f"{path}: the teacher's answer cannot be written ({error}); make room, or leave `cache:` out"
            ) from None

    def _path(self, name: str) -> Path:
        """A thousand folders, for a million files in one are slow everywhere."""
        return self.folder / f"{crc32(name.encode()) % 1000:03}" / f"{name}.safetensors"


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """A reader sees the whole file or none, however many processes write it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    fill(new)
    new.replace(path)
