"""Boxes as numbers relative to an anchor, and back; boxes are x1 y1 x2 y2.

Legend: A anchors, P positives.
"""

import math

import torch
from torch import Tensor

from .exact import at_least_float32

DELTA_SCALES = (10.0, 10.0, 5.0, 5.0)
"""What the head predicts are deltas times these: of the centre in anchor sides, of the logarithm of the size."""
MOST_GROWTH = math.log(1000 / 16)
"""torchvision's bound on the logarithm, which keeps its exponential finite."""


def decode_deltas(deltas_A4: Tensor, anchors_A4: Tensor) -> Tensor:
    """Move and resize anchors: x1 y1 x2 y2."""
    deltas_A4 = at_least_float32(deltas_A4) / deltas_A4.new_tensor(DELTA_SCALES, dtype=torch.float32)
    sides_A2 = anchors_A4[:, 2:] - anchors_A4[:, :2]
    centres_A2 = (anchors_A4[:, :2] + anchors_A4[:, 2:]) / 2 + deltas_A4[:, :2] * sides_A2
    half_A2 = sides_A2 * deltas_A4[:, 2:].clamp_max(MOST_GROWTH).exp() / 2
    return torch.cat([centres_A2 - half_A2, centres_A2 + half_A2], dim=1)


def decode_distances(distances_A4: Tensor, anchors_A4: Tensor) -> Tensor:
    """Return the boxes whose edges lie this far to the left, top, right and bottom of the anchors' centres."""
    centres_A2 = (anchors_A4[:, :2] + anchors_A4[:, 2:]) / 2
    return torch.cat([centres_A2 - distances_A4[:, :2], centres_A2 + distances_A4[:, 2:]], dim=1)


def encode_distances(boxes_P4: Tensor, anchors_P4: Tensor) -> Tensor:
    """Return how far the edges of boxes are from the anchors' centres: left, top, right, bottom."""
    centres_P2 = (anchors_P4[:, :2] + anchors_P4[:, 2:]) / 2
    return torch.cat([centres_P2 - boxes_P4[:, :2], boxes_P4[:, 2:] - centres_P2], dim=1)


def paired_iou(boxes_P4: Tensor, others_P4: Tensor) -> Tensor:
    """Return IoU of box i with box i of the others."""
    overlap_P2 = torch.minimum(boxes_P4[:, 2:], others_P4[:, 2:]) - torch.maximum(boxes_P4[:, :2], others_P4[:, :2])
    overlap_P = overlap_P2.clamp_min(0).prod(1)
    areas_P = [(b[:, 2:] - b[:, :2]).prod(1) for b in (boxes_P4, others_P4)]
    return overlap_P / (areas_P[0] + areas_P[1] - overlap_P).clamp_min(1e-9)


def centreness(anchors_P4: Tensor, boxes_P4: Tensor) -> Tensor:
    """Return how central an anchor's centre, which lies inside, is in its box: 1 in the middle, 0 on an edge."""
    before_P2, after_P2 = encode_distances(boxes_P4, anchors_P4).split(2, dim=1)
    return (torch.minimum(before_P2, after_P2) / torch.maximum(before_P2, after_P2)).prod(1).sqrt()
