"""What is in a data set, in numbers."""

from typing import Any

import numpy as np

from kdet.data.images import read_image
from kdet.data.source import FileSource, Source
from kdet.errors import InputError

SMALL_PX2, LARGE_PX2 = 32.0**2, 96.0**2
"""COCO's limits between small, medium and large objects."""


def inspect(source: Source, *, decode: bool = False) -> dict[str, Any]:
    """Counts and problems of a data set, ready for JSON.

    Args:
        source: one split.
        decode: also read every image, which finds unreadable files and sizes that are not as stated.
    """
    index = source.index
    counts = np.diff(index.offsets)
    areas = index.areas[~index.crowd]
    problems = list(index.notes)
    if decode and isinstance(source, FileSource):
        problems += _unreadable(source)
    small, large = int((areas < SMALL_PX2).sum()), int((areas >= LARGE_PX2).sum())
    return {
        "images": len(index),
        "boxes": len(index.labels),
        "crowd": int(index.crowd.sum()),
        "empty_images": int((counts == 0).sum()),
        "boxes_per_image": {"mean": float(counts.mean()), "most": int(counts.max())},
        "classes": index.class_counts(),
        "sizes": {"small": small, "medium": len(areas) - small - large, "large": large},
        "image_sizes": {
            "smallest_side": int(index.sizes_hw.min()),
            "largest_side": int(index.sizes_hw.max()),
            "different": len(np.unique(index.sizes_hw, axis=0)),
        },
        "problems": problems,
    }


def _unreadable(source: FileSource) -> list[str]:
    found: list[str] = []
    for i in range(len(source.index)):
        try:
            read_image(source.index.image(i), source.index.size_hw(i))
        except InputError as problem:
            found.append(str(problem))
    return found
