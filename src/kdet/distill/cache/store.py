"""What a teacher said about single images, kept in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.distill.cache.tensor_folder import TensorFolder
from kdet.types import Level, Need, Observation, SizeHW

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
    """Size of the image on its canvas, without padding."""


class Answers:
    """A folder of answers."""

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
        self._files = TensorFolder(folder, about)

    def has(self, name: str) -> bool:
        """Whether something stands under a name."""
        return self._files.has(name)

    def load(self, name: str, device: torch.device | str = "cpu") -> Answer | None:
        """What stands under a name; None where nothing does, or what a crash of the machine left is no answer."""
        found = self._files.load(name, device)
        if found is None:
            return None
        tensors: dict[str, Any] = found[0]
        about = found[1]
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
        return self._files.save(name, named, about)


def one_of(seen: Observation, row: int) -> Observation:
    """Return the observation of one image of a batch."""
    features = None if seen.features is None else [level[row : row + 1] for level in seen.features]
    changes = {key: value[row : row + 1] for key in _TENSORS if (value := getattr(seen, key)) is not None}
    return replace(seen, features=features, **changes)


def stacked(rows: list[Observation]) -> Observation:
    """Return one observation of the images of a batch, all on one canvas."""
    first = rows[0]
    features = None
    if first.features is not None:
        features = [torch.cat(levels) for levels in zip(*[row.features or [] for row in rows], strict=True)]
    changes: dict[str, Tensor] = {
        key: torch.cat([getattr(row, key) for row in rows]) for key in _TENSORS if getattr(first, key) is not None
    }
    return replace(first, features=features, **changes)


def _pair(values: Any) -> SizeHW:
    return int(values[0]), int(values[1])
