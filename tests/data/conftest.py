"""Small data sets for the tests of `kdet.data`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data_cases import annotation
from PIL import Image

from kdet.data import Shapes, ShapesSource

torch.set_num_threads(1)

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """A folder of real images, or a skip that says which one is absent."""

    def find(name: str) -> Path:
        if not (REAL / name).is_dir():
            pytest.skip(f"real data set {name} is not at {REAL / name}")
        return REAL / name

    return find


@pytest.fixture
def shapes() -> ShapesSource:
    """Twelve small generated images, some of them without objects."""
    return ShapesSource(Shapes(images=12, val_images=5, image_size=48, objects=(0, 4), scale=(0.15, 0.5), clutter=1))


@pytest.fixture
def save_image() -> Callable[..., Path]:
    """Write a plain image of a size; returns its path."""

    def save(path: Path, width: int = 40, height: int = 30, mode: str = "RGB", **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (width, height)).save(path, **options)
        return path

    return save


@pytest.fixture
def coco_file(tmp_path: Path, save_image: Callable[..., Path]) -> Callable[..., Path]:
    """Write a COCO data set of two images, 40×30 px, with any part replaced."""

    def make(**parts: Any) -> Path:
        content = {
            "images": [
                {"id": 10, "file_name": "a.png", "width": 40, "height": 30},
                {"id": 20, "file_name": "b.png", "width": 40, "height": 30},
            ],
            "annotations": [
                annotation(1, image_id=20, bbox=[1, 2, 10, 20]),
                annotation(2, image_id=10, category_id=7, bbox=[5.5, 5.25, 10, 20], iscrowd=1),
                annotation(3, image_id=10, bbox=[0, 0, 40, 30], area=600),
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        } | parts
        for entry in ("a.png", "b.png"):
            save_image(tmp_path / "images" / entry)
        file = tmp_path / "annotations_train.json"
        file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return file

    return make
