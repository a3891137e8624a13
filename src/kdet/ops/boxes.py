"""What torchvision.ops lacks on boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def scaled(boxes: Tensor, from_hw: Sequence[int], to_hw: Sequence[int]) -> Tensor:
    """Boxes …×4 in pixels of one canvas as pixels of another that shows the same."""
    (height, width), (new_height, new_width) = from_hw, to_hw
    return boxes * boxes.new_tensor([new_width / width, new_height / height] * 2)


def paired_iou(boxes_P4: Tensor, others_P4: Tensor) -> Tensor:
    """IoU of the i-th box with the i-th other box, x1 y1 x2 y2; length P, differentiable.

    torchvision's box_iou gives all P×P pairs.
    """
    top_left = torch.maximum(boxes_P4[:, :2], others_P4[:, :2])
    bottom_right = torch.minimum(boxes_P4[:, 2:], others_P4[:, 2:])
    intersection = (bottom_right - top_left).clamp_min(0).prod(dim=1)
    areas = [(b[:, 2:] - b[:, :2]).clamp_min(0).prod(dim=1) for b in (boxes_P4, others_P4)]
    return intersection / (areas[0] + areas[1] - intersection).clamp_min(1e-9)
