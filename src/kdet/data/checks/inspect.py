"""What is in a data set, in numbers."""

from typing import Any

import numpy as np

from kdet.data.checks.headers import look
from kdet.data.source import Source
from kdet.ops.classes import real_classes

SMALL_PX2, LARGE_PX2 = 32.0**2, 96.0**2
"""COCO's limits between small, medium and large objects."""


def inspect(source: Source, *, decode: bool = False) -> dict[str, Any]:
    """Return the counts and problems of a data set, ready for JSON.

    Args:
        source: one split.
        decode: also decode every image; without it their headers and ends are looked at.
    """
    index = source.index
    counts = np.diff(index.offsets)
    areas = index.areas[~index.crowd]
    found = look(source, decode=decode)
    problems = [*index.notes, *found.faults, *found.notes]
    objects = real_classes(index.classes)
    for name, count in index.class_counts().items():
        if count and name not in objects:
            problems.append(
                f"boxes of class {name!r}, which stands for no object, are refused in training ({count}); rename the "
                "class, "
                "or take them out"
            )
    if not areas.size:
        problems.append("no image holds an object, so nothing can be learned or measured")
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
        **({} if index.first_pixel is None else {"first_pixel": index.first_pixel}),
        "problems": problems,
    }
