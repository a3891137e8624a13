"""What torchvision.ops lacks on boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST_AREA = 1e-7
"""Least area, in the boxes' own unit squared."""


def scaled(boxes: Tensor, from_hw: Sequence[int], to_hw: Sequence[int]) -> Tensor:
    """Convert boxes …×4 from pixels of one canvas to pixels of another that shows the same."""
    (height, width), (new_height, new_width) = from_hw, to_hw
    return boxes * boxes.new_tensor([new_width / width, new_height / height] * 2)


def paired_iou(boxes_P4: Tensor, others_P4: Tensor) -> Tensor:
    """Return IoU of the i-th box with the i-th other box, x1 y1 x2 y2; length P, differentiable.

    torchvision's box_iou gives all P×P pairs.
    """
    top_left = torch.maximum(boxes_P4[:, :2], others_P4[:, :2])
    bottom_right = torch.minimum(boxes_P4[:, 2:], others_P4[:, 2:])
    intersection = (bottom_right - top_left).clamp_min(0).prod(dim=1)
    areas = [(b[:, 2:] - b[:, :2]).clamp_min(0).prod(dim=1) for b in (boxes_P4, others_P4)]
    return intersection / (areas[0] + areas[1] - intersection).clamp_min(1e-9)


def paired_generalised_iou(boxes_P4: Tensor, others_P4: Tensor) -> Tensor:
    """Return IoU less the share of the enclosing box that neither covers, in −1…1; length P, differentiable.

    torchvision's is not taken: a loss imports torch alone, and equal boxes without an area would count 1, with a
    gradient of 1e7 and more. Two boxes that together span no area count 1 here, with none.
    """
    inner_P2 = torch.minimum(boxes_P4[:, 2:], others_P4[:, 2:]) - torch.maximum(boxes_P4[:, :2], others_P4[:, :2])
    outer_P2 = torch.maximum(boxes_P4[:, 2:], others_P4[:, 2:]) - torch.minimum(boxes_P4[:, :2], others_P4[:, :2])
    overlap_P, hull_P = _area(inner_P2.relu()), _area(outer_P2)
    union_P = _area(boxes_P4[:, 2:] - boxes_P4[:, :2]) + _area(others_P4[:, 2:] - others_P4[:, :2]) - overlap_P
    similarity_P = overlap_P / union_P.clamp_min(_LEAST_AREA) - (hull_P - union_P) / hull_P.clamp_min(_LEAST_AREA)
    return torch.where(hull_P <= _LEAST_AREA, 1.0, similarity_P)


def centre_and_size(boxes_P4: Tensor) -> Tensor:
    """Convert x1 y1 x2 y2 to the centre's x and y, width and height."""
    return torch.cat([(boxes_P4[:, :2] + boxes_P4[:, 2:]) / 2, boxes_P4[:, 2:] - boxes_P4[:, :2]], 1)


def _area(size_P2: Tensor) -> Tensor:
    return size_P2[:, 0] * size_P2[:, 1]
