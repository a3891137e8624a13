"""A data set's annotations in columns: a few arrays however many images there are, so that workers share them.

N images, B boxes of the whole data set.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdet.errors import InputError
from kdet.ops.classes import real_classes

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Labels = NDArray[np.int16] | NDArray[np.int32]
"""Class numbers, in the smaller type where it suffices: there may be ten million."""


@dataclass(frozen=True, eq=False)
class Names:
    """N strings in one buffer: a million Python strings would be copied into every worker by their reference counts."""

    text: NDArray[np.uint8]
    """UTF-8, one string after the other."""
    offsets: Ints
    """N+1; string i is `text[offsets[i]:offsets[i + 1]]`."""

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Names":
        """Pack strings."""
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        lengths = np.fromiter((len(item) for item in encoded), np.int64, len(encoded))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> str:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        return self.text[self.offsets[i] : self.offsets[i + 1]].tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of one image."""

    boxes_xyxy: Floats
    labels: Ints
    crowd: Flags
    areas: Floats
    scores: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionIndex:
    """Which images there are, and what is on them. Checked: readers give it only after `validate.checked`."""

    root: Path
    """The folder that file names are relative to."""
    classes: tuple[str, ...]
    """`classes[label]` is the label's name."""
    image_ids: Ints
    """N, unique."""
    file_names: Names
    """N, relative to `root`, with `/`."""
    sizes_hw: NDArray[np.int32]
    """N×2, of the image as it is shown, after EXIF orientation."""
    boxes_xyxy: Floats
    """B×4, 0-based pixels of the original image, inside it and with an area."""
    labels: Labels
    """B."""
    crowd: Flags
    """B; regions to ignore: no training target, and neither hit nor miss in evaluation."""
    areas: Floats
    """B; px² as the annotation gives it (COCO: of the mask), else of the box. Decides small, medium and large."""
    offsets: Ints
    """N+1; image i owns boxes `offsets[i]:offsets[i + 1]`."""
    scores: Floats | None = None
    """B, 0…1; how sure a model was of a box that nobody has looked at, 1 for those of people. None = all are theirs."""
    class_ids: tuple[int, ...] | None = None
    """The number of each class in its file, where that numbers them; kept when the data are written again."""
    first_pixel: int | None = None
    """Number of the first pixel in VOC data, 0 or 1; None in other formats."""
    notes: tuple[str, ...] = ()
    """What the reader mended, one line a kind; for the caller to print."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def image(self, i: int) -> Path:
        """Path of image i."""
        return self.root / self.file_names[i]

    def size_hw(self, i: int) -> tuple[int, int]:
        """Height and width of image i in pixels."""
        return int(self.sizes_hw[i, 0]), int(self.sizes_hw[i, 1])

    def objects(self, i: int) -> Objects:
        """Everything annotated on image i, crowd regions included."""
        own = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return Objects(
            boxes_xyxy=self.boxes_xyxy[own],
            labels=self.labels[own].astype(np.int64),
            crowd=self.crowd[own],
            areas=self.areas[own],
            scores=None if self.scores is None else self.scores[own],
        )

    def subset(self, indices: Sequence[int] | Ints) -> "DetectionIndex":
        """The index of these images, in this order."""
        rows = np.asarray(indices, np.int64)
        counts = self.offsets[rows + 1] - self.offsets[rows]
        offsets = offsets_of(counts)
        # Position inside the image's own run, plus where that run starts in this index.
        boxes = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts) + np.repeat(self.offsets[rows], counts)
        return replace(
            self,
            image_ids=self.image_ids[rows],
            file_names=Names.of(self.file_names[int(row)] for row in rows),
            sizes_hw=self.sizes_hw[rows],
            boxes_xyxy=self.boxes_xyxy[boxes],
            labels=self.labels[boxes],
            crowd=self.crowd[boxes],
            areas=self.areas[boxes],
            scores=None if self.scores is None else self.scores[boxes],
            offsets=offsets,
        )

    def only_boxes(self, keep: Flags) -> "DetectionIndex":
        """The index of all images with these boxes alone; B flags."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[keep],
            labels=self.labels[keep],
            crowd=self.crowd[keep],
            areas=self.areas[keep],
            scores=None if self.scores is None else self.scores[keep],
            offsets=offsets_of(keep.astype(np.int64))[self.offsets],
        )

    def relabelled(self, class_names: Sequence[str]) -> "DetectionIndex":
        """The same data with labels that are columns of a model's `class_names`, matched by name.

        Raises:
            InputError: a class of the data is none of the model's, or a box bears a background or "N/A" label.
        """
        own, columns = real_classes(self.classes), real_classes(class_names)
        if missing := [name for name in own if name not in columns]:
            raise InputError(
                f"the data in {self.root} have classes that the model does not know: {missing}; "
                f"the data have {list(own)}, the model has {list(columns)}"
            )
        table = np.full(len(self.classes), -1)
        table[list(own.values())] = [columns[name] for name in own]
        labels = as_labels(table, len(class_names))[self.labels]
        if (labels < 0).any():
            name = self.classes[self.labels[int(np.argmax(labels < 0))]]
            raise InputError(
                f"the data in {self.root} have boxes of class {name!r}, which stands for no object; rename the "
                "class, or take these boxes out"
            )
        return replace(self, classes=tuple(class_names), labels=labels, class_ids=None)

    def class_counts(self) -> dict[str, int]:
        """Boxes of each class, crowd regions included."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def as_labels(values: Ints, num_classes: int) -> Labels:
    """Return the indices into so many classes, or -1, for an index."""
    return values.astype(np.int16) if num_classes < 2**15 else values.astype(np.int32)


def offsets_of(counts: Ints) -> Ints:
    """Return where each of the runs of these lengths starts, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
