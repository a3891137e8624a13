"""A detector over a loader: detections in pixels of the original images, with the data's labels."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdet.data import DetectionIndex
from kdet.errors import InputError, WorkError
from kdet.evaluate.coco_ap import coco_metrics
from kdet.evaluate.metrics import Metrics
from kdet.evaluate.predictions import ImagePredictions
from kdet.evaluate.voc_ap import with_voc_ap
from kdet.ops.classes import real_classes
from kdet.ops.modes import evaluating
from kdet.types import Batch, Detections, Detector, Need, SizeHW

Progress = Callable[[int], object]
"""Called with the number of images just done."""

_BROKEN = "the detector's weights are probably broken; take those from before"
_AUTOCAST = {"fp32": None, "bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A detector's metrics on a data set, and the detections they were computed from."""

    metrics: Metrics
    predictions: list[ImagePredictions]

    @property
    def dropped(self) -> int:
        """Detections left out because the data do not have their class."""
        return sum(image.dropped for image in self.predictions)


def evaluate(
    detector: Detector,
    loader: Iterable[Batch],
    ground_truth: DetectionIndex,
    *,
    device: torch.device | str,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Evaluation:
    """Compute a detector's COCO metrics on a loader's images, in this process; VOC's own too where the data are VOC.

    With several processes: `predict_loader` in each, gather, then `coco_metrics` (and `with_voc_ap`) in one.

    Args:
        detector: with its model on `device`.
        loader: gives every image of the ground truth once, unaugmented.
        ground_truth: labels may be the data's own or any model's columns; detections are matched to them by name.
        device: where the batches go.
        precision: as in `predict_loader`.
        progress: as in `predict_loader`.

    Returns:
        Metrics and the detections of every image.

    Raises:
        InputError: no class in common, no object to find, or an image that the loader did not give.
        WorkError: a box or a score is not finite.
    """
    if ground_truth.crowd.all():
        raise InputError(f"{ground_truth.root}: no image holds an object, so AP has no value; check the annotations")
    predictions = predict_loader(
        detector, loader, ground_truth.classes, device=device, precision=precision, progress=progress
    )
    if missing := set(ground_truth.image_ids.tolist()) - {image.image_id for image in predictions}:
        raise InputError(f"{len(missing)} images of the ground truth were not given, image {min(missing)} among them")
    metrics = with_voc_ap(coco_metrics(ground_truth, predictions), ground_truth, predictions)
    return Evaluation(metrics=metrics, predictions=predictions)


def predict_loader(
    detector: Detector,
    loader: Iterable[Batch],
    classes: Sequence[str],
    *,
    device: torch.device | str,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> list[ImagePredictions]:
    """Return what a detector finds on every image of a loader, in the loader's order.

    The model is in evaluation mode meanwhile, and afterwards in the mode of before.

    Args:
        detector: with its model on `device`.
        loader: batches of unaugmented images.
        classes: the data's; detections of other classes are dropped and counted.
        device: where the batches go.
        precision: "fp32", "bf16-mixed" or "fp16-mixed", whatever autocast the caller has set.
        progress: called with the number of images just done.

    Raises:
        InputError: the detector and the data have no class in common, or the precision is unknown.
        WorkError: a box or a score is not finite, or what they are made from.
    """
    columns = _label_table(detector.class_names, classes)
    predictions: list[ImagePredictions] = []
    looked = False
    # Not inference_mode: its tensors, cached in a model (anchors for one), would break training afterwards.
    with torch.no_grad(), evaluating(detector.model), _autocast(precision, torch.device(device)):
        for batch in loader:
            found = detector.predict(batch.to(device))
            looked = _require_finite(detector, batch.to(device), found, looked=looked)
            predictions += _in_data_terms(found, batch, columns)
            if progress is not None:
                progress(len(batch.image_ids))
    return predictions


def _require_finite(detector: Detector, batch: Batch, found: Sequence[Detections], *, looked: bool) -> bool:
    """Refuse what is not finite; once a loader also where nothing is found, for a detector's own threshold hides NaN.

    Raises:
        WorkError: naming the image.
    """
    for one, image_id in zip(found, batch.image_ids, strict=True):
        if not bool(one.scores.isfinite().all() & one.boxes.isfinite().all()):
            raise WorkError(f"predictions of image {image_id}: a box or a score is not finite; {_BROKEN}")
    # What only predicts, such as an oracle of one's own, has nothing to look into.
    shown = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.QUERIES}) & getattr(detector, "gives", frozenset[Need]())
    if looked or not shown or all(len(one.scores) for one in found):
        return looked
    seen = detector.observe(batch, shown)
    for name, values in (("features", seen.features), ("class scores", [seen.class_logits, seen.query_logits])):
        if any(value is not None and bool(value.isnan().any()) for value in values or ()):
            raise WorkError(f"images {batch.image_ids}: nothing is found, for the {name} are not finite; {_BROKEN}")
    return True


def _label_table(own: Sequence[str], data: Sequence[str]) -> Tensor:
    """Column of the detector → label of the data with the same name, -1 where there is none."""
    own_columns, data_columns = real_classes(own), real_classes(data)
    table = torch.full((len(own),), -1, dtype=torch.int64)
    for name, column in own_columns.items():
        table[column] = data_columns.get(name, -1)
    if bool((table < 0).all()):
        raise InputError(
            f"the detector and the data have no class in common: the detector has {list(own_columns)}, "
            f"the data have {list(data_columns)}; names must be spelt alike"
        )
    return table


def _in_data_terms(found: Sequence[Detections], batch: Batch, table: Tensor) -> list[ImagePredictions]:
    images = zip(found, batch.image_ids, batch.sizes_hw, batch.original_sizes_hw, strict=True)
    return [_image(one, image_id, size_hw, original_hw, table) for one, image_id, size_hw, original_hw in images]


def _image(found: Detections, image_id: int, size_hw: SizeHW, original_hw: SizeHW, table: Tensor) -> ImagePredictions:
    boxes, scores = found.boxes.float().cpu(), found.scores.float().cpu()
    labels = table[found.labels.cpu()]
    (height, width), (original_height, original_width) = size_hw, original_hw
    limits = torch.tensor([original_width, original_height] * 2)
    boxes = (boxes * (limits / torch.tensor([width, height] * 2))).clamp_min(0).minimum(limits)
    # Not finite ones stay: hiding them would turn broken weights into a mere bad score.
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    kept = (labels >= 0) & ~flat
    return ImagePredictions(
        image_id=image_id,
        boxes_xyxy=boxes[kept].numpy().astype(np.float32, copy=False),
        scores=scores[kept].numpy().astype(np.float32, copy=False),
        labels=labels[kept].numpy(),
        dropped=int((labels < 0).sum()),
    )


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    if precision not in _AUTOCAST:
        raise InputError(f"precision {precision!r}: expected one of {', '.join(_AUTOCAST)}")
    dtype = _AUTOCAST[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
