"""What several tests of `kdet.data` build and compare."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


_BOX = "<object><name>{}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"


def xml(file: Path, image: str = "", name: str = "cat") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation><filename>{image}</filename>{_BOX.format(name)}</annotation>")


def coloured(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    """An image that looks like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def yolo_set(base: Path, images: dict[str, int], settings: str = "names: [cat]\ntrain: images\n") -> Path:
    """A YOLO folder; images by name with the seed of their pixels."""
    for name, seed in images.items():
        coloured(base / "images" / name, seed)
        label = (base / "labels" / name).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (base / "data.yaml").write_text(settings)
    return base
