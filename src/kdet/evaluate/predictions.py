"""Detections of one image in the data's own terms, and the file that keeps them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kdet.errors import InputError
from kdet.files import parse_json, read_text


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePredictions:
    """What a detector says about one image; M detections, best score first."""

    image_id: int
    boxes_xyxy: NDArray[np.float32]
    """M×4, pixels of the original image."""
    scores: NDArray[np.float32]
    """M, 0…1."""
    labels: NDArray[np.int64]
    """M, indices into the data's classes."""
    dropped: int = 0
    """Detections left out because the data do not have their class."""


def write_predictions(path: Path, predictions: Sequence[ImagePredictions], classes: Sequence[str]) -> None:
    """Write {"classes", "image_ids", "results"}; "results" is COCO's own result list, categories from 1. Atomic."""
    content = {
        "classes": list(classes),
        "image_ids": [image.image_id for image in predictions],
        "results": [result for image in predictions for result in coco_results(image)],
    }
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as handle:
        json.dump(content, handle, ensure_ascii=False, allow_nan=False)
        handle.flush()
        os.fsync(handle.fileno())
    new.replace(path)


def coco_results(image: ImagePredictions) -> list[dict[str, Any]]:
    """COCO's result records of one image: bbox is x, y, width, height in px; category_id is label + 1."""
    boxes = image.boxes_xyxy.astype(np.float64)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    rows = zip(boxes_xywh.tolist(), image.scores.tolist(), image.labels.tolist(), strict=True)
    return [
        {"image_id": image.image_id, "category_id": label + 1, "bbox": bbox, "score": score}
        for bbox, score, label in rows
    ]


def read_predictions(path: Path) -> tuple[list[ImagePredictions], tuple[str, ...]]:
    """Return the images' predictions and the class names that their labels index.

    Raises:
        InputError: the file is absent or is not what `write_predictions` writes.
    """
    try:
        text = read_text(path)
        if text is None:
            raise InputError(f"{path}: cannot be read (no such file)")
        content = parse_json(text, str(path))
        classes = tuple(str(name) for name in content["classes"])
        records: dict[int, list[Mapping[str, Any]]] = {int(image_id): [] for image_id in content["image_ids"]}
        for i, result in enumerate(cast(list[Mapping[str, Any]], content["results"])):
            if not 1 <= int(result["category_id"]) <= len(classes):
                raise InputError(
                    f"{path}: result {i} has category_id {result['category_id']} of {len(classes)} classes; `kdet "
                    "evaluate "
                    "--predictions` writes a new one"
                )
            records[int(result["image_id"])].append(result)
        return [_image(image_id, results) for image_id, results in records.items()], classes
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: not a predictions file of kdet ({error}); `kdet evaluate --predictions` writes a new one"
        ) from None


def _image(image_id: int, results: Sequence[Mapping[str, Any]]) -> ImagePredictions:
    xywh = np.array([result["bbox"] for result in results], np.float64).reshape(-1, 4)
    return ImagePredictions(
        image_id=image_id,
        boxes_xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32),
        scores=np.array([result["score"] for result in results], np.float32),
        labels=np.array([int(result["category_id"]) - 1 for result in results], np.int64),
    )
