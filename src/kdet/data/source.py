"""Where images and their annotations come from."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from kdet.data.images import read_image
from kdet.data.index import DetectionIndex


class Source(Protocol):
    """An index and the pixels that belong to it."""

    @property
    def index(self) -> DetectionIndex:
        """The annotations."""
        ...

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        ...


@dataclass(frozen=True)
class FileSource:
    """Images that lie on the disk."""

    index: DetectionIndex

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB.

        Raises:
            InputError: the file cannot be read, or has another size than its annotation says.
        """
        return read_image(self.index.image(i), self.index.size_hw(i))


def on_disk(source: Source) -> bool:
    """Whether the images are files, and not generated."""
    if isinstance(source, FileSource):
        return True
    parts = getattr(source, "parts", None) or [getattr(source, name, None) for name in ("pixels", "labelled")]
    return any(part is not None and on_disk(part) for part in parts)


@dataclass(frozen=True)
class IndexedSource:
    """The pixels of another source under a changed index of the same images, for example with the model's labels."""

    index: DetectionIndex
    pixels: Source

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        return self.pixels.read(i)
