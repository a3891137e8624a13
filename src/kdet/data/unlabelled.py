"""Images without labels beside those with them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kdet.data.images import read_size_hw
from kdet.data.index import DetectionIndex, Names, offsets_of
from kdet.data.listing import image_names
from kdet.data.source import FileSource, IndexedSource, Source
from kdet.errors import InputError


@dataclass(frozen=True)
class Joined:
    """The images of one source, then those of another that has no labels."""

    index: DetectionIndex
    labelled: Source
    unlabelled: Source

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        count = len(self.labelled.index)
        return self.labelled.read(i) if i < count else self.unlabelled.read(i - count)


def image_folder(folder: Path) -> Source:
    """All images below a folder.

    Raises:
        InputError: no such folder, no image in it, or one that cannot be read.
    """
    names = image_names(folder, folder)
    if not names:
        raise InputError(f"{folder}: no image in it; name a folder with JPEG or PNG files")
    index = DetectionIndex(
        root=folder,
        classes=(),
        image_ids=np.arange(len(names), dtype=np.int64),
        file_names=Names.of(names),
        sizes_hw=np.array([read_size_hw(folder / name) for name in names], np.int32),
        **_no_objects(len(names)),
    )
    return FileSource(index)


def without_labels(source: Source) -> Source:
    """The same images with nothing said about them."""
    return IndexedSource(replace(source.index, classes=(), **_no_objects(len(source.index))), source)


def joined(labelled: Source, unlabelled: Source) -> Joined:
    """One source of both; the unlabelled images have ids above all others."""
    ours, theirs = labelled.index, unlabelled.index
    first = int(ours.image_ids.max(initial=-1)) + 1
    names = [ours.file_names[i] for i in range(len(ours))] + [str(theirs.image(i)) for i in range(len(theirs))]
    index = replace(
        ours,
        image_ids=np.concatenate([ours.image_ids, first + np.arange(len(theirs), dtype=np.int64)]),
        file_names=Names.of(names),
        sizes_hw=np.concatenate([ours.sizes_hw, theirs.sizes_hw]),
        offsets=np.concatenate([ours.offsets, np.repeat(ours.offsets[-1:], len(theirs))]),
    )
    return Joined(index, labelled, unlabelled)


def _no_objects(images: int) -> dict[str, Any]:
    """The columns of an index in which no image holds anything."""
    return {
        "boxes_xyxy": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int32),
        "crowd": np.zeros(0, np.bool_),
        "areas": np.zeros(0, np.float32),
        "offsets": offsets_of(np.zeros(images, np.int64)),
    }
