"""Ground truth and predictions as COCO's records, checked and renumbered so that every library counts alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdet.data import DetectionIndex
from kdet.errors import InputError, WorkError
from kdet.evaluate.predictions import ImagePredictions, coco_results
from kdet.ops.classes import real_classes

Records = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class CocoTables:
    """Ids of images, categories and annotations start at 1, because 0 means "unmatched" inside the libraries."""

    images: Records
    categories: Records
    truth: Records
    found: Records

    def of_truth(self) -> dict[str, Any]:
        """A COCO data set."""
        return {"images": self.images, "categories": self.categories, "annotations": self.truth}

    def of_found(self) -> dict[str, Any]:
        """The detections in the shape of a data set."""
        return {"images": self.images, "categories": self.categories, "annotations": self.found}


def coco_tables(ground_truth: DetectionIndex, predictions: Sequence[ImagePredictions]) -> CocoTables:
    """Turn ground truth and predictions into COCO's tables.

    Raises:
        InputError: predictions of an unknown image, twice of the same, of an unknown class, or with a negative side.
        WorkError: a box or a score is not finite.
    """
    # Images in the order of their ids: that is how COCO's own code breaks ties between scores.
    numbers = {int(image_id): i + 1 for i, image_id in enumerate(np.sort(ground_truth.image_ids))}
    check_predictions(ground_truth, predictions)
    names = real_classes(ground_truth.classes)
    if not numbers or not names:
        raise InputError(f"{ground_truth.root}: no images or no classes, so there is nothing to evaluate on")
    return CocoTables(
        images=[{"id": number} for number in numbers.values()],
        categories=[{"id": column + 1, "name": name} for name, column in names.items()],
        truth=_with_ids(_truth_records(ground_truth, numbers)),
        found=_with_ids(_found_records(predictions, numbers)),
    )


def check_predictions(index: DetectionIndex, predictions: Sequence[ImagePredictions]) -> None:
    """The libraries count wrongly, or die without saying where, on what is refused here."""
    known = set(index.image_ids.tolist())
    seen: set[int] = set()
    for image in predictions:
        where = f"predictions of image {image.image_id}"
        if image.image_id not in known:
            raise InputError(f"{where}: the ground truth in {index.root} has no such image")
        if image.image_id in seen:
            raise InputError(f"{where}: given twice")
        seen.add(image.image_id)
        if not np.isfinite(image.boxes_xyxy).all() or not np.isfinite(image.scores).all():
            raise WorkError(
                f"{where}: a box or a score is not finite; the detector's weights are probably broken, take those "
                "from before"
            )
        if (image.boxes_xyxy[:, 2:] < image.boxes_xyxy[:, :2]).any():
            raise InputError(f"{where}: a box has a negative width or height; expected x1 y1 x2 y2")
        if image.labels.size and not 0 <= image.labels.min() <= image.labels.max() < len(index.classes):
            raise InputError(f"{where}: a label is none of the {len(index.classes)} classes of the data")


def _truth_records(index: DetectionIndex, numbers: dict[int, int]) -> Iterator[dict[str, Any]]:
    for i, image_id in enumerate(index.image_ids):
        own = index.objects(i)
        boxes = own.boxes_xyxy.astype(np.float64)
        sides = boxes[:, 2:] - boxes[:, :2]
        for corner, side, label, crowd, area in zip(boxes, sides, own.labels, own.crowd, own.areas, strict=True):
            yield {
                "image_id": numbers[int(image_id)],
                "category_id": int(label) + 1,
                "bbox": [*corner[:2].tolist(), *side.tolist()],
                "area": float(area),
                "iscrowd": int(crowd),
            }


def _found_records(predictions: Sequence[ImagePredictions], numbers: dict[int, int]) -> Iterator[dict[str, Any]]:
    for image in sorted(predictions, key=lambda image: image.image_id):
        for result in coco_results(image):
            width, height = result["bbox"][2:]
            yield {**result, "image_id": numbers[image.image_id], "area": width * height, "iscrowd": 0}


def _with_ids(records: Iterator[dict[str, Any]]) -> Records:
    return [{**record, "id": i} for i, record in enumerate(records, start=1)]
