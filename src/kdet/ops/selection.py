"""Candidates → detections in fixed shapes and without loops over images, so that it can be written into a graph.

Legend: N images, A candidates, K class columns, B candidates that are left before NMS, D detections. A score of 0 is
an empty place.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from kdet.types import SizeHW


class Candidates(NamedTuple):
    """Everything that a detector scores, before any is chosen; of one size whatever the image shows."""

    scores: Tensor
    """N×A×K as detections carry them, 0…1; 0 in columns that are never a detection, such as the background."""
    boxes: Tensor
    """N×A×4 in pixels of the input, or N×A×K×4 where each class has a box of its own."""
    counts: tuple[int, ...]
    """Candidates of each level; they add up to A."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How candidates become detections: threshold, the best of each group, NMS by class, the best of all."""

    score: float
    """A detection's score is above it."""
    best: int | None
    """Number of each group's best that stay before NMS; None = all."""
    group: Literal["level", "class", "image"]
    nms_iou: float | None
    """None = no NMS, as where queries answer for one object each."""
    detections: int
    """Largest number of detections of an image."""
    clip: bool = True
    """Whether boxes are cut at the image's border before NMS."""


class Selected(NamedTuple):
    """Detections of each image, best first; places that are left over hold zeros and the label -1."""

    boxes: Tensor
    """N×D×4 in pixels of the input."""
    scores: Tensor
    """N×D."""
    labels: Tensor
    """N×D int64."""


def select(candidates: Candidates, rule: Selection, size_hw: SizeHW) -> Selected:
    """Select by threshold, the best of each group, NMS by class, and the best of all; size_hw is that of the input."""
    num_classes = candidates.scores.shape[2]
    scores_NAK = torch.where(candidates.scores > rule.score, candidates.scores, 0.0)
    scores_NB, places_NB = _best_of_groups(scores_NAK, candidates.counts, rule)
    labels_NB = places_NB % num_classes
    boxes_NB4 = _boxes_at(candidates.boxes, places_NB, num_classes)
    if rule.clip:
        boxes_NB4 = clipped(boxes_NB4, size_hw)
    if rule.nms_iou is not None:
        scores_NB = without_overlaps(boxes_NB4, scores_NB, labels_NB, rule.nms_iou)
    scores_ND, order_ND = scores_NB.topk(min(rule.detections, scores_NB.shape[1]))
    found_ND = scores_ND > 0
    boxes_ND4 = torch.where(found_ND[..., None], _rows(boxes_NB4, order_ND), 0.0)
    return Selected(boxes_ND4, scores_ND, torch.where(found_ND, labels_NB.gather(1, order_ND), -1))


def best_of_levels(scores_NA: Tensor, counts: tuple[int, ...], best: int) -> tuple[Tensor, Tensor]:
    """Return the scores N×B and places N×B of the `best` entries of each level, of which there are `counts`."""
    kept: list[Tensor] = []
    places: list[Tensor] = []
    start = 0
    for level_NA, count in zip(scores_NA.split(list(counts), dim=1), counts, strict=True):
        scores, order = level_NA.topk(min(best, count))
        kept.append(scores)
        places.append(order + start)
        start += count
    return torch.cat(kept, dim=1), torch.cat(places, dim=1)


def without_overlaps(boxes_NB4: Tensor, scores_NB: Tensor, groups_NB: Tensor, iou: float) -> Tensor:
    """Return the scores N×B, 0 where a better box of the same image and group overlaps by more than `iou`."""
    # One NMS for all: images are laid side by side downwards, groups to the right, where none meets another.
    low, extent = boxes_NB4.min(), boxes_NB4.max() - boxes_NB4.min() + 1
    images_NB = torch.arange(scores_NB.shape[0], device=scores_NB.device)[:, None].expand_as(groups_NB)
    shifts_NB4 = torch.stack([groups_NB, images_NB, groups_NB, images_NB], dim=2) * extent
    # torchvision tells torch.export that two boxes are left at least: two that overlap nothing make it true.
    apart_24 = low + extent * boxes_NB4.new_tensor([[-2.0, -2.0, -1.0, -1.0], [-4.0, -2.0, -3.0, -1.0]])
    boxes = torch.cat([apart_24, (boxes_NB4 + shifts_NB4).flatten(0, 1)])
    scores = torch.cat([scores_NB.new_ones(2), scores_NB.flatten()])
    present = scores.nonzero().squeeze(1)
    kept = present[nms(boxes[present], scores[present], iou)]
    return (scores * torch.zeros_like(scores).index_fill(0, kept, 1.0))[2:].view_as(scores_NB)


def clipped(boxes: Tensor, size_hw: SizeHW) -> Tensor:
    """Cut boxes …×4 at the border."""
    x1, y1, x2, y2 = boxes.clamp_min(0.0).unbind(-1)
    height, width = (float(side) for side in size_hw)
    limits = (width, height, width, height)
    return torch.stack([c.clamp_max(limit) for c, limit in zip((x1, y1, x2, y2), limits, strict=True)], dim=-1)


def _best_of_groups(scores_NAK: Tensor, counts: tuple[int, ...], rule: Selection) -> tuple[Tensor, Tensor]:
    """Scores N×B, and where they stand among the A·K of their image."""
    _, num_candidates, num_classes = scores_NAK.shape
    best = num_candidates * num_classes if rule.best is None else rule.best
    match rule.group:
        case "level":
            return best_of_levels(scores_NAK.flatten(1), tuple(count * num_classes for count in counts), best)
        case "class":
            scores_NBK, order_NBK = scores_NAK.topk(min(best, num_candidates), dim=1)
            columns = torch.arange(num_classes, device=scores_NAK.device)
            return scores_NBK.flatten(1), (order_NBK * num_classes + columns).flatten(1)
        case "image":
            return best_of_levels(scores_NAK.flatten(1), (num_candidates * num_classes,), best)


def _boxes_at(boxes: Tensor, places_NB: Tensor, num_classes: int) -> Tensor:
    if boxes.ndim == 4:
        return _rows(boxes.flatten(1, 2), places_NB)
    return _rows(boxes, places_NB // num_classes)


def _rows(boxes_NA4: Tensor, rows_NB: Tensor) -> Tensor:
    return boxes_NA4.gather(1, rows_NB[..., None].expand(-1, -1, 4))
