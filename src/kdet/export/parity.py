"""Whether a file finds on images what the model finds.

Legend: M detections of the model, L of the file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torchvision.ops import box_iou

from kdet.errors import InputError
from kdet.export.exported import ExportedDetector
from kdet.ops.modes import evaluating
from kdet.types import Batch, Detections, Detector

MOST_ALONE = 0.01
"""Share of the detections that may have no partner: NMS and the last places hang on the last digit of a score."""
MOST_PX = 1.0
MOST_SCORE = 0.01
_SAME_IOU = 0.9
_LEAST_PX = 1.0
"""Slimmer boxes, cut at the border, have no IoU worth the name; COCO's metrics do not see those without an area."""
_CLEAR = 1e-3
"""A score so far above the threshold, or above the last of a full list, is no matter of the last digit."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Model and file on the very same pixels; the detections of both that are clearly above their thresholds."""

    images: int
    detections: int
    """Number of detections of model and file together."""
    alone: int
    """Number of detections without a partner of the same class with an IoU of at least 0.9."""
    box_px: float
    """The largest difference of a coordinate between partners, in pixels of the input."""
    score: float
    """The largest difference of their scores."""

    @property
    def good(self) -> bool:
        """Whether all of it is within bounds."""
        few = self.alone <= MOST_ALONE * self.detections
        return few and self.box_px <= MOST_PX and self.score <= MOST_SCORE

    def __str__(self) -> str:
        found = f"{self.detections} detections on {self.images} images, {self.alone} of them without a partner"
        return f"{found}; boxes differ by {self.box_px:.2g} px at most, scores by {self.score:.2g}"


def compare(detector: Detector, exported: ExportedDetector, batches: Iterable[Batch]) -> Parity:
    """Model and file on the file's own inputs.

    Args:
        detector: the model, on the CPU.
        exported: the file.
        batches: real images.

    Raises:
        InputError: nothing was found on any image, so that nothing was compared.
    """
    sides = Sides()
    with torch.no_grad(), evaluating(detector.model):
        for batch in batches:
            inputs = exported.inputs(batch)
            whole = replace(batch, images=inputs, sizes_hw=[exported.about.size_hw] * len(inputs))
            for ours, theirs in zip(detector.predict(whole), exported.predict(whole), strict=True):
                sides.add(ours, theirs, exported.about.selection.score, exported.about.selection.detections)
    parity = sides.parity()
    if not parity.detections:
        raise InputError("the model finds nothing on these images, so a file of it proves nothing; give others")
    return parity


class Sides:
    """Counts image by image."""

    def __init__(self) -> None:
        self._images = self._detections = self._alone = 0
        self._box_px = self._score = 0.0

    def add(self, ours: Detections, theirs: Detections, threshold: float, most: int) -> None:
        """One image."""
        self._images += 1
        for one, other in ((ours, theirs), (theirs, ours)):
            full = len(one.scores) >= most or len(other.scores) >= most
            last = max(float(side.scores.min()) if full and len(side.scores) else 0.0 for side in (one, other))
            sides = one.boxes[:, 2:] - one.boxes[:, :2]
            clear = (one.scores > max(threshold, last) + _CLEAR) & (sides >= _LEAST_PX).all(dim=1)
            self._detections += int(clear.sum())
            if not len(other.scores):
                self._alone += int(clear.sum())
                continue
            met_ML = box_iou(one.boxes[clear], other.boxes) >= _SAME_IOU
            met_ML &= one.labels[clear, None] == other.labels
            px_ML = (one.boxes[clear, None] - other.boxes).abs().amax(dim=2)
            score_ML = (one.scores[clear, None] - other.scores).abs()
            # Boxes cut at the border may be alike, and their scores not; and the other way round, where queries agree.
            apart_ML = (px_ML / MOST_PX + score_ML / MOST_SCORE).where(met_ML, torch.inf)
            met = met_ML.any(dim=1)
            self._alone += int((~met).sum())
            if bool(met.any()):
                partner = met.nonzero().squeeze(1), apart_ML[met].argmin(dim=1)
                self._box_px = max(self._box_px, float(px_ML[partner].max()))
                self._score = max(self._score, float(score_ML[partner].max()))

    def parity(self) -> Parity:
        """What was counted."""
        return Parity(
            images=self._images,
            detections=self._detections,
            alone=self._alone,
            box_px=self._box_px,
            score=self._score,
        )
