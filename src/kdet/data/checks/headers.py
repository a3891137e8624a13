"""What can be known of images without decoding them all: whether they are whole, and of the size that is stated."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdet.data.images import opened, read_image, sizes_hw
from kdet.data.source import Source, on_disk
from kdet.errors import InputError, counted

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b"\x3b"}
"""How a file ends that is whole; what ends otherwise is decoded to be sure."""


@dataclass
class Findings:
    """What a look at images found, in sentences that begin with the file."""

    unreadable: list[str] = field(default_factory=list[str])
    other_size: list[str] = field(default_factory=list[str])
    """The stated size is neither the stored one nor the one shown."""
    unrotated: list[str] = field(default_factory=list[str])
    """The stated size is that before the EXIF rotation."""

    @property
    def faults(self) -> list[str]:
        """One line a kind that training would stop at."""
        lines: list[str] = []
        if self.unreadable:
            lines.append(f"{counted(len(self.unreadable), 'image')} that cannot be read (first: {self.unreadable[0]})")
        if self.other_size:
            lines.append(f"{counted(len(self.other_size), 'image')} of another size than stated ({self.other_size[0]})")
        return lines

    @property
    def notes(self) -> list[str]:
        """One line a kind that training would not stop at."""
        if not self.unrotated:
            return []
        images = counted(len(self.unrotated), "image")
        return [
            f"{images} with an EXIF rotation whose stated size is that before it, so that boxes are taken to be, too "
            f"(first: {self.unrotated[0]}); if they were drawn on the rotated image, mend the stated size"
        ]


def look(source: Source, *, most: int | None = None, decode: bool = False) -> Findings:
    """Look at the images of a source.

    Args:
        source: one split; generated images are always sound.
        most: so many at most, evenly spaced; None = all.
        decode: also decode each.
    """
    found = Findings()
    if not on_disk(source):
        return found
    count = len(source.index)
    for i in np.unique(np.linspace(0, count - 1, min(count, most or count)).round().astype(int)).tolist():
        _look_at(source.index.image(i), source.index.size_hw(i), found, decode=decode)
    return found


def _look_at(path: Path, stated_hw: tuple[int, int], found: Findings, *, decode: bool) -> None:
    try:
        with opened(path) as image:
            shown_hw, stored_hw = sizes_hw(image)
            end = _ENDS.get(image.format or "", b"")
        if stated_hw not in (shown_hw, stored_hw):
            stated, own = (f"{width}×{height}" for height, width in (stated_hw, shown_hw))
            found.other_size.append(f"{path}: the image is {own} px, its annotation says {stated}")
        elif stated_hw != shown_hw:
            found.unrotated.append(f"{path} is {shown_hw[1]}×{shown_hw[0]} px as it is shown")
        if decode or not _ends_with(path, end):
            read_image(path)
    except InputError as problem:
        found.unreadable.append(str(problem))


def _ends_with(path: Path, end: bytes) -> bool:
    """Whether a file ends so; junk behind it is told from a file cut short by decoding."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - len(end)))
        return file.read() == end
