"""Candidates → detections: threshold, the best, NMS by class, the best of all.

Legend: N images, A candidates, K class columns, M detections of one image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from kdet.ops.selection import Candidates, Selection
from kdet.types import Detections, SizeHW


def choose(found: Candidates, rule: Selection, sizes_hw: Sequence[SizeHW]) -> list[Detections]:
    """Select the detections of each image, best first.

    Args:
        found: scores N×A×K and boxes N×A×4.
        rule: with groups of whole images.
        sizes_hw: the part of each image that is no padding; no detection reaches beyond it. Where boxes are cut before
            NMS, those without area are left out.
    """
    assert rule.group == "image" and found.boxes.ndim == 3, "one group per image, one box per candidate"
    each = zip(found.scores, found.boxes, sizes_hw, strict=True)
    return [_chosen(scores_AK, boxes_A4, rule, size_hw) for scores_AK, boxes_A4, size_hw in each]


def _chosen(scores_AK: Tensor, boxes_A4: Tensor, rule: Selection, size_hw: SizeHW) -> Detections:
    row, label = torch.where(scores_AK > rule.score)
    scores_M = scores_AK[row, label].float()
    if rule.best is not None and len(scores_M) > rule.best:
        scores_M, kept = scores_M.topk(rule.best)
        row, label = row[kept], label[kept]
    boxes_M4 = boxes_A4[row].float()
    if rule.clip:
        boxes_M4 = clip_boxes_to_image(boxes_M4, size_hw)
        inside = (boxes_M4[:, 2:] > boxes_M4[:, :2]).all(1)
        boxes_M4, scores_M, label = boxes_M4[inside], scores_M[inside], label[inside]
    if rule.nms_iou is None:
        order = scores_M.argsort(descending=True)
    else:
        order = batched_nms(boxes_M4, scores_M, label, rule.nms_iou)
    order = order[: rule.detections]
    return Detections(boxes=clip_boxes_to_image(boxes_M4[order], size_hw), scores=scores_M[order], labels=label[order])
