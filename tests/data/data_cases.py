"""What several tests of `kdet.data` build and compare."""

from pathlib import Path
from typing import Any

import numpy as np

from kdet.data import DetectionIndex


def annotation(identity: int, **values: Any) -> dict[str, Any]:
    """One COCO annotation on image 10, category 3."""
    return {"id": identity, "image_id": 10, "category_id": 3, "bbox": [2, 3, 4, 5]} | values


def assert_same(first: DetectionIndex, second: DetectionIndex, *, exact: bool = True, crowd: bool = True) -> None:
    """Two indices say the same about the same images."""
    assert first.classes == second.classes
    assert len(first) == len(second)
    names = [Path(first.file_names[i]).name for i in range(len(first))]
    assert names == [Path(second.file_names[i]).name for i in range(len(second))]
    np.testing.assert_array_equal(first.sizes_hw, second.sizes_hw)
    keep = np.ones(len(first.labels), bool) if crowd else ~first.crowd
    np.testing.assert_array_equal(first.labels[keep], second.labels)
    np.testing.assert_array_equal(first.crowd[keep], second.crowd)
    np.testing.assert_allclose(first.boxes_xyxy[keep], second.boxes_xyxy, rtol=0, atol=0 if exact else 1e-4)
    if crowd:
        np.testing.assert_array_equal(first.offsets, second.offsets)
