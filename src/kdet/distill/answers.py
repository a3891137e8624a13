"""What a teacher said about single images, as files of a folder that says what they depend on."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdet.errors import InputError, WorkError
from kdet.files import parse_json, read_text
from kdet.tensor_file import save_tensors
from kdet.types import Level, Need, Observation, SizeHW

_ABOUT = "cache.json"
_FIELDS: dict[Need, tuple[str, ...]] = {
    Need.FEATURES: ("features",),
    Need.MEMORY: ("features",),
    Need.CLASS_LOGITS: ("class_logits", "quality_logits"),
    Need.BOXES: ("boxes",),
    Need.EDGE_LOGITS: ("edge_logits",),
    Need.QUERIES: ("query_logits", "query_boxes"),
}
"""What is kept of an observation, by what asks for it."""
KEPT = frozenset(_FIELDS)
_TENSORS = [name for names in _FIELDS.values() for name in names if name != "features"]


@dataclass(frozen=True)
class Answer:
    """About one image: an observation with N = 1."""

    seen: Observation
    size_hw: SizeHW
    """Of the image on its canvas, without padding."""


class Answers:
    """A folder of answers, each in a file that is there whole or not at all."""

    def __init__(self, folder: Path, about: Mapping[str, Any], levels: tuple[Level, ...]) -> None:
        """Open or begin a folder.

        Args:
            folder: may be there already, with answers of the same teacher on the same images.
            about: JSON that says what the answers depend on.
            levels: the teacher's.

        Raises:
            InputError: the folder holds something else, or cannot be used.
        """
        self.folder, self.levels = folder, levels
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

    def load(self, name: str, device: torch.device | str = "cpu") -> Answer | None:
        """What stands under a name; None where nothing does, or what a crash of the machine left is no answer."""
        try:
            with safe_open(self._path(name), "pt", device=str(device)) as file:
                about = json.loads(file.metadata()["answer"])
                tensors = {key: file.get_tensor(key) for key in list(file.keys())}
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        maps = [tensors.pop(f"features.{i}") for i in range(sum(key.startswith("features.") for key in tensors))]
        seen = Observation(
            levels=self.levels,
            input_size_hw=_pair(about["input_size_hw"]),
            features=[level.contiguous(memory_format=torch.channels_last) for level in maps] or None,
            anchors_per_cell=tuple(about["anchors_per_cell"]),
            cells_hw=tuple(_pair(cells) for cells in about["cells_hw"]),
            activation=about["activation"],
            **tensors,
        )
        return Answer(seen, _pair(about["size_hw"]))

    def save(self, name: str, answer: Answer) -> int:
        """Put an answer under a name; returns its bytes.

        Raises:
            WorkError: the disk is full or cannot be written.
        """
        seen = answer.seen
        named = {f"features.{i}": level for i, level in enumerate(seen.features or [])}
        named |= {key: value for key in _TENSORS if (value := getattr(seen, key)) is not None}
        about = {
            "input_size_hw": seen.input_size_hw,
            "size_hw": answer.size_hw,
            "anchors_per_cell": seen.anchors_per_cell,
            "cells_hw": seen.cells_hw,
            "activation": seen.activation,
        }
        path = self._path(name)
        try:
            path.parent.mkdir(exist_ok=True)
            _write(path, lambda new: save_tensors(named, new, metadata={"answer": json.dumps(about)}))
            return path.stat().st_size
        except (OSError, SafetensorError) as error:
            raise WorkError(
                f"{path}: the teacher's answer cannot be written ({error}); make room, or leave `cache:` out"
            ) from None

    def _path(self, name: str) -> Path:
        """A thousand folders, for a million files in one are slow everywhere."""
        return self.folder / f"{crc32(name.encode()) % 1000:03}" / f"{name}.safetensors"


def one_of(seen: Observation, row: int) -> Observation:
    """The observation of one image of a batch."""
    features = None if seen.features is None else [level[row : row + 1] for level in seen.features]
    changes = {key: value[row : row + 1] for key in _TENSORS if (value := getattr(seen, key)) is not None}
    return replace(seen, features=features, **changes)


def stacked(rows: list[Observation]) -> Observation:
    """One observation of the images of a batch, all on one canvas."""
    first = rows[0]
    features = None
    if first.features is not None:
        features = [torch.cat(levels) for levels in zip(*[row.features or [] for row in rows], strict=True)]
    changes: dict[str, Tensor] = {
        key: torch.cat([getattr(row, key) for row in rows]) for key in _TENSORS if getattr(first, key) is not None
    }
    return replace(first, features=features, **changes)


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """A reader sees the whole file or none, however many processes write it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    fill(new)
    new.replace(path)


def _pair(values: Any) -> SizeHW:
    return int(values[0]), int(values[1])
