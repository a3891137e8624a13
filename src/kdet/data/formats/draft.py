"""A data set as a reader found it, before anybody has looked whether it is sound: see validate.py.

N images, B boxes of the whole data set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdet.data.index import Flags, Ints


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Columns as a file gives them; classes and images are known to exist, boxes are not yet looked at."""

    file: Path
    """What the user named."""
    root: Path
    classes: tuple[str, ...]
    image_ids: Ints
    file_names: list[str]
    sizes_hw: NDArray[np.int32]
    rows: Ints
    """B; which image each box is on."""
    boxes_xyxy: NDArray[np.float64]
    labels: Ints
    crowd: Flags
    areas: NDArray[np.float64]
    """B; NaN where the file gives none."""
    scores: NDArray[np.float64]
    """B; how sure a model was of a box, NaN where the file says nothing."""
    entries: Ints
    """B; annotation id, line or object number."""
    describe: Callable[[int, int], str]
    """Image row and entry → "file: annotation 7 (image 'a.jpg')", for messages."""
    class_ids: tuple[int, ...] | None = None
    """The number of each class in the file, where it numbers them."""
    roots: frozenset[int] = frozenset()
    """Labels that only group others, as Roboflow's first category does."""
    settled: bool = False
    """Whether the caller gave the classes, all of which stay."""
    boxless: str = "has no box"
    """What a box of four NaN means."""
    outside: str = ""
    """What a box that lies wholly outside its image is a sign of."""
    first_pixel: int | None = None
    """Number of the first pixel in VOC data, as in `DetectionIndex.first_pixel`."""
    notes: tuple[str, ...] = ()
    """What the reader has to say, one line a kind."""
