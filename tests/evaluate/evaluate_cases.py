"""Small ground truths and detections for the tests of `kdet.evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdet.data import DetectionIndex
from kdet.data.index import Names, offsets_of
from kdet.evaluate import ImagePredictions

Box = tuple[float, float, float, float]


def index_of(
    images: dict[int, Sequence[tuple[Any, ...]]], classes: Sequence[str] = ("cat", "dog"), size: int = 200
) -> DetectionIndex:
    """Image id → (box, label) or (box, label, crowd)."""
    rows = [row for objects in images.values() for row in objects]
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return DetectionIndex(
        root=Path("made-up"),
        classes=tuple(classes),
        image_ids=np.array(list(images), np.int64),
        file_names=Names.of(f"{i}.png" for i in images),
        sizes_hw=np.full((len(images), 2), size, np.int32),
        boxes_xyxy=boxes,
        labels=np.array([row[1] for row in rows], np.int32),
        crowd=np.array([len(row) > 2 and row[2] for row in rows], bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        offsets=offsets_of(np.array([len(objects) for objects in images.values()], np.int64)),
    )


def found(image_id: int, *rows: tuple[Box, int, float]) -> ImagePredictions:
    """(box, label, score) of one image."""
    return ImagePredictions(
        image_id=image_id,
        boxes_xyxy=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[2] for row in rows], np.float32),
        labels=np.array([row[1] for row in rows], np.int64),
    )


def random_index(seed: int = 0, num_images: int = 40) -> DetectionIndex:
    """Crowds, images without objects, a class without objects, ids in no order and starting at 0."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(num_images * 3)[:num_images]
    ids[0] = 0
    images: dict[int, list[tuple[Any, ...]]] = {}
    for image_id in dict.fromkeys(ids.tolist()):
        corners = rng.uniform(0, 150, (int(rng.integers(0, 7)), 2))
        sides = rng.choice([8.0, 25.0, 50.0, 120.0], corners.shape) * rng.uniform(0.7, 1.3, corners.shape)
        images[image_id] = [
            ((*corner, *(corner + side)), int(rng.choice([0, 1, 3])), bool(rng.random() < 0.15))
            for corner, side in zip(corners, sides, strict=True)
        ]
    return index_of(images, classes=("cat", "dog", "never seen", "owl"), size=400)


def perturbed(index: DetectionIndex, seed: int = 0, extra: int = 4) -> list[ImagePredictions]:
    """Shaken ground truth, some of it under another class, plus inventions; scores rounded so that many tie."""
    rng = np.random.default_rng(seed)
    predictions: list[ImagePredictions] = []
    for i, image_id in enumerate(index.image_ids.tolist()):
        own = index.objects(i)
        repeated = np.repeat(own.boxes_xyxy, 2, axis=0).astype(np.float64)
        sides = np.tile(repeated[:, 2:] - repeated[:, :2], 2)
        shaken = repeated + rng.normal(0, 0.07, repeated.shape) * sides
        corners = rng.uniform(0, 100, (extra, 2))
        boxes = np.concatenate([shaken, np.hstack([corners, corners + rng.uniform(5, 100, (extra, 2))])])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        labels = np.concatenate([np.repeat(own.labels, 2), rng.integers(0, len(index.classes), extra)])
        labels = np.where(rng.random(len(labels)) < 0.1, rng.integers(0, len(index.classes), len(labels)), labels)
        predictions.append(
            ImagePredictions(
                image_id=image_id,
                boxes_xyxy=boxes.astype(np.float32),
                scores=rng.random(len(boxes)).round(1).astype(np.float32),
                labels=labels,
            )
        )
    return predictions
