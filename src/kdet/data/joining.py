"""Several sources as one: classes by name, image ids anew where they clash."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from kdet.data.index import DetectionIndex, Ints, Names, as_labels, offsets_of
from kdet.data.source import Source
from kdet.errors import InputError


@dataclass(frozen=True)
class Concatenated:
    """The images of several sources, one after the other."""

    index: DetectionIndex
    parts: tuple[Source, ...]
    starts: Ints
    """Position of each part's first image, and the number of all."""

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        part = int(np.searchsorted(self.starts, i, side="right")) - 1
        return self.parts[part].read(i - int(self.starts[part]))


def concatenated(parts: Sequence[Source]) -> Source:
    """Join sources into one; classes are those of the first, then what the others add, matched by name.

    Args:
        parts: at least one; all on the disk.

    Raises:
        InputError: two sources spell what seems to be one class in two ways.
    """
    if len(parts) == 1:
        return parts[0]
    indices = [part.index for part in parts]
    _require_spelt_alike(indices)
    classes = tuple(dict.fromkeys(name for index in indices for name in index.classes))
    columns = {name: column for column, name in enumerate(classes)}
    roots = [index.root.resolve() for index in indices]
    root = Path(os.path.commonpath(roots))
    names = [
        (own.relative_to(root) / index.file_names[i]).as_posix()
        for index, own in zip(indices, roots, strict=True)
        for i in range(len(index))
    ]
    ids = np.concatenate([index.image_ids for index in indices])
    labels = [np.array([columns[name] for name in index.classes], np.int64)[index.labels] for index in indices]
    pixels = {index.first_pixel for index in indices}
    index = DetectionIndex(
        root=root,
        classes=classes,
        image_ids=ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1, dtype=np.int64),
        file_names=Names.of(names),
        sizes_hw=np.concatenate([index.sizes_hw for index in indices]),
        boxes_xyxy=np.concatenate([index.boxes_xyxy for index in indices]),
        labels=as_labels(np.concatenate(labels), len(classes)),
        crowd=np.concatenate([index.crowd for index in indices]),
        areas=np.concatenate([index.areas for index in indices]),
        offsets=offsets_of(np.concatenate([np.diff(index.offsets) for index in indices])),
        first_pixel=pixels.pop() if len(pixels) == 1 else None,
        notes=(*(note for index in indices for note in index.notes), *_missing(indices, classes)),
    )
    return Concatenated(index, tuple(parts), offsets_of(np.array([len(index) for index in indices], np.int64)))


def _require_spelt_alike(indices: Sequence[DetectionIndex]) -> None:
    """Names of two sources that differ in capitals, spaces and dashes alone would be two classes that nobody meant."""
    seen: dict[str, tuple[str, Path]] = {}
    for index in indices:
        for name in index.classes:
            plain = name.casefold().translate(str.maketrans("", "", " _-")) or name
            other, where = seen.setdefault(plain, (name, index.root))
            if other != name and not any({name, other} <= set(one.classes) for one in indices):
                raise InputError(
                    f"classes clash: {where} has {other!r}, {index.root} has {name!r}; several sources are joined by "
                    "the names of their classes, so spell them alike"
                )


def _missing(indices: Sequence[DetectionIndex], classes: Sequence[str]) -> list[str]:
    """A line for each source that lacks classes of the others."""
    lacking = {index.root: [name for name in classes if name not in index.classes] for index in indices}
    return [
        f"{root}: has no class {', '.join(map(repr, names))}, which another source has; its objects there, if any, "
        "count as background"
        for root, names in lacking.items()
        if names
    ]
