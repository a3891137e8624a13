"""Which anchor answers for which object, by ATSS: the bar is set by the object's own nearest anchors.

Legend: M objects of one image, A anchors of all levels, C candidates of an object.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

BACKGROUND = -1


def assign_adaptively(
    boxes_M4: Tensor, anchors_A4: Tensor, anchors_per_level: Sequence[int], *, num_candidates: int = 9
) -> Tensor:
    """Assign an object to each anchor of one image, A int64: its index, or -1 for background.

    Paper: Zhang, Chi, Yao, Lei, Li, "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
    Training Sample Selection", CVPR 2020, https://arxiv.org/abs/1912.02424, algorithm 1.

    The candidates of an object are the `num_candidates` (k = 9) anchors of each level whose centres are nearest to its
    own. Positive are those whose IoU with it is at least mean + standard deviation of all its candidates' IoUs, and
    whose centre lies inside it. An anchor that is positive for several objects goes to the one that it overlaps most.

    Args:
        boxes_M4: The objects, x1 y1 x2 y2.
        anchors_A4: The anchors, level by level.
        anchors_per_level: How many of them each level has; one with fewer than k gives all it has.
        num_candidates: k.

    Deviations: a single candidate has the standard deviation 0; else it is that of a sample (n - 1), as in the official
    code; the paper does not say which. Inside is meant strictly; the official code asks for 0.01 pixels.
    """
    if len(boxes_M4) == 0:
        return torch.full((len(anchors_A4),), BACKGROUND, dtype=torch.int64, device=anchors_A4.device)
    boxes_M4 = boxes_M4.to(anchors_A4.dtype)
    iou_MA = box_iou(boxes_M4, anchors_A4)
    centres_A2 = (anchors_A4[:, :2] + anchors_A4[:, 2:]) / 2
    candidate_MA = _nearest(boxes_M4, centres_A2, anchors_per_level, num_candidates)
    iou_MC = iou_MA[candidate_MA].reshape(len(boxes_M4), -1)
    spread_M = iou_MC.std(1, correction=min(1, iou_MC.shape[1] - 1))
    above_MA = iou_MA >= (iou_MC.mean(1) + spread_M)[:, None]
    positive_MA = candidate_MA & above_MA & _inside(boxes_M4, centres_A2)
    best_A, object_A = torch.where(positive_MA, iou_MA, -1.0).max(0)
    return torch.where(best_A >= 0, object_A, BACKGROUND)


def _nearest(boxes_M4: Tensor, centres_A2: Tensor, anchors_per_level: Sequence[int], count: int) -> Tensor:
    """Mask M×A of the anchors of each level that are nearest to each object; as many for each object."""
    own_M2 = (boxes_M4[:, :2] + boxes_M4[:, 2:]) / 2
    distance_MA = (own_M2[:, None] - centres_A2[None]).square().sum(-1)
    masks: list[Tensor] = []
    for level_Ma in distance_MA.split(list(anchors_per_level), dim=1):
        nearest = level_Ma.topk(min(count, level_Ma.shape[1]), dim=1, largest=False).indices
        masks.append(torch.zeros_like(level_Ma, dtype=torch.bool).scatter_(1, nearest, True))
    return torch.cat(masks, dim=1)


def _inside(boxes_M4: Tensor, centres_A2: Tensor) -> Tensor:
    after_start = centres_A2[None] > boxes_M4[:, None, :2]
    before_end = centres_A2[None] < boxes_M4[:, None, 2:]
    return (after_start & before_end).all(-1)
