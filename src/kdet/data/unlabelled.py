"""Images that nobody has labelled, beside those with labels, and what a model found on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from kdet.data.images import sizes_of
from kdet.data.index import DetectionIndex, Floats, Names, Objects, as_labels, offsets_of
from kdet.data.listing import image_names
from kdet.data.source import FileSource, IndexedSource, Source
from kdet.data.transforms import MIN_SIDE_PX
from kdet.errors import InputError


@dataclass(frozen=True)
class Joined:
    """The images of one source, then those of another."""

    index: DetectionIndex
    labelled: Source
    unlabelled: Source

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        count = len(self.labelled.index)
        return self.labelled.read(i) if i < count else self.unlabelled.read(i - count)


def image_folder(folder: Path) -> Source:
    """Open all images below a folder.

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
        sizes_hw=sizes_of(folder, names),
        boxes_xyxy=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int32),
        crowd=np.zeros(0, np.bool_),
        areas=np.zeros(0, np.float32),
        offsets=np.zeros(len(names) + 1, np.int64),
    )
    return FileSource(index)


def without_labels(source: Source) -> Source:
    """Return the same images with nothing said about them."""
    index = source.index.only_boxes(np.zeros(len(source.index.labels), np.bool_))
    return IndexedSource(replace(index, classes=(), scores=None), source)


def with_objects(source: Source, classes: Sequence[str], objects: Sequence[Objects]) -> Source:
    """Put these objects on the images, one entry an image; all of them have scores, and labels of `classes`.

    What a detector finds beyond the image, or of less than a pixel in it, is left out.
    """
    counts = np.array([len(own.labels) for own in objects], np.int64)
    limits = np.repeat(source.index.sizes_hw[:, [1, 0, 1, 0]].astype(np.float32), counts, axis=0)
    boxes = np.minimum(np.concatenate([own.boxes_xyxy for own in objects]).reshape(-1, 4).clip(min=0), limits)
    sides = boxes[:, 2:] - boxes[:, :2]
    index = replace(
        source.index,
        classes=tuple(classes),
        boxes_xyxy=boxes.astype(np.float32),
        labels=as_labels(np.concatenate([own.labels for own in objects]), len(classes)),
        crowd=np.zeros(len(boxes), np.bool_),
        areas=sides.prod(axis=1).astype(np.float32),
        scores=np.concatenate([_scores_of(own, len(own.labels)) for own in objects]),
        offsets=offsets_of(counts),
    )
    return IndexedSource(index.only_boxes(np.all(sides >= MIN_SIDE_PX, axis=1)), source)


def joined(labelled: Source, unlabelled: Source) -> Joined:
    """Join both into one source; the other images get ids above all, and boxes with labels of the first's classes."""
    ours, theirs = labelled.index, unlabelled.index
    first = int(ours.image_ids.max(initial=-1)) + 1
    names = [ours.file_names[i] for i in range(len(ours))] + [str(theirs.image(i)) for i in range(len(theirs))]
    scores = None
    if ours.scores is not None or theirs.scores is not None:
        scores = np.concatenate([_scores_of(ours, len(ours.labels)), _scores_of(theirs, len(theirs.labels))])
    index = replace(
        ours,
        image_ids=np.concatenate([ours.image_ids, first + np.arange(len(theirs), dtype=np.int64)]),
        file_names=Names.of(names),
        sizes_hw=np.concatenate([ours.sizes_hw, theirs.sizes_hw]),
        boxes_xyxy=np.concatenate([ours.boxes_xyxy, theirs.boxes_xyxy]),
        labels=np.concatenate([ours.labels, theirs.labels.astype(ours.labels.dtype)]),
        crowd=np.concatenate([ours.crowd, theirs.crowd]),
        areas=np.concatenate([ours.areas, theirs.areas]),
        scores=scores,
        offsets=np.concatenate([ours.offsets, ours.offsets[-1] + theirs.offsets[1:]]),
    )
    return Joined(index, labelled, unlabelled)


def _scores_of(own: DetectionIndex | Objects, count: int) -> Floats:
    return np.ones(count, np.float32) if own.scores is None else own.scores
