"""Objects as maps of weights, one map a level; made once per batch and handed to the losses.

Legend: N images, M objects of one image (the most of the batch), H W cells of a level, A anchors of one cell.

A cell belongs to a box when the two overlap: the box is scaled to cells, its lower corner floored, its upper corner
ceiled. A side on the border between two cells does not reach into the second. Every object has at least one cell;
what lies outside the network's input counts for the cells at the edge.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from kdet.types import SizeHW


def box_mask(boxes: Sequence[Tensor], size_hw: SizeHW, pixels_hw: SizeHW) -> Tensor:
    """Return 1 in the cells of at least one box of the image and 0 elsewhere, N×1×H×W.

    Args:
        boxes: One M×4 per image, x1 y1 x2 y2 in pixels of the network input; M may be 0.
        size_hw: Height and width of the level in cells.
        pixels_hw: Height and width in pixels of what the level's cells cover, padding included: cells times stride,
            which is more than the network's input where that is no multiple of the stride.
    """
    rows_NMH, columns_NMW = _rows_and_columns(boxes, size_hw, pixels_hw)
    # A product of matrices counts the boxes over each cell without ever holding M maps.
    return (rows_NMH.mT @ columns_NMW > 0).float().unsqueeze(1)


def foreground_by_area(boxes: Sequence[Tensor], size_hw: SizeHW, pixels_hw: SizeHW) -> Tensor:
    """Return 1 / number of cells of the box, the smallest box where several overlap, 0 outside all boxes; N×1×H×W.

    The foreground mask and the scale mask of FGD (https://arxiv.org/abs/2111.11837) in one, so that a small object
    weighs as much as a large one. Arguments as in `box_mask`. Holds N×M×H×W numbers for a moment.

    Deviations: the official code takes one row and one column of cells more for every box and counts them even beyond
    the edge; here the weights of an object that no smaller one covers add up to 1. It also scales boxes by each
    image's size before padding, which moves them on the map of a padded batch.
    """
    rows_NMH, columns_NMW = _rows_and_columns(boxes, size_hw, pixels_hw)
    cells_NM = rows_NMH.sum(2) * columns_NMW.sum(2)
    weighted_NMH = rows_NMH / cells_NM.clamp(min=1).unsqueeze(2)
    return (weighted_NMH.unsqueeze(3) * columns_NMW.unsqueeze(2)).amax(1).unsqueeze(1)


def background_mask(boxes: Sequence[Tensor], size_hw: SizeHW, pixels_hw: SizeHW) -> Tensor:
    """Return 1 / number of the image's cells outside all boxes in each of them, 0 in the boxes; N×1×H×W.

    FGD's background mask and its scale. Arguments as in `box_mask`. Cells of the padding are background.
    """
    outside_N1HW = 1 - box_mask(boxes, size_hw, pixels_hw)
    return outside_N1HW / outside_N1HW.sum((2, 3), keepdim=True).clamp(min=1)


def cell_mask(positive: Tensor, size_hw: SizeHW) -> Tensor:
    """Return 1 in the cells with at least one positive anchor and 0 elsewhere, N×1×H×W.

    Args:
        positive: Bool, N×(H·W·A) or N×(H·W)×A; the anchors of the level row by row, then anchor of the cell.
        size_hw: Height and width of the level in cells.

    Raises:
        ValueError: not bool, or not the same number of anchors in every cell.
    """
    if positive.dtype != torch.bool:
        raise ValueError(f"expected bool, true where an anchor is positive, got {positive.dtype}")
    flat_NP, cells = positive.flatten(1), size_hw[0] * size_hw[1]
    if flat_NP.shape[1] % cells:
        raise ValueError(f"expected a multiple of {cells} anchors for {size_hw} cells, got {flat_NP.shape[1]}")
    per_cell_NLA = flat_NP.unflatten(1, (cells, flat_NP.shape[1] // cells))
    return per_cell_NLA.any(2).float().view(-1, 1, *size_hw)


def _rows_and_columns(boxes: Sequence[Tensor], size_hw: SizeHW, pixels_hw: SizeHW) -> tuple[Tensor, Tensor]:
    """1 for each row of a box, N×M×H, and for each of its columns, N×M×W."""
    if not boxes:
        raise ValueError("expected the boxes of at least one image, got none")
    boxes_NM4 = pad_sequence(list(boxes), batch_first=True, padding_value=torch.nan)
    # One object more, of no cells, so that a batch without objects has a maximum too.
    boxes_NM4 = F.pad(boxes_NM4, (0, 0, 0, 1), value=torch.nan)
    left, top, right, bottom = boxes_NM4.unbind(2)
    rows_NMH = _overlapped(top, bottom, size_hw[0], pixels_hw[0])
    return rows_NMH, _overlapped(left, right, size_hw[1], pixels_hw[1])


def _overlapped(low_NM: Tensor, high_NM: Tensor, cells: int, pixels: int) -> Tensor:
    """1 for each cell of an axis that the stretch from low to high overlaps; none where they are NaN, the padding."""
    first_NM = (low_NM * cells / pixels).floor().clamp(0, cells - 1)
    end_NM = (high_NM * cells / pixels).ceil().maximum(first_NM + 1)
    index = torch.arange(cells, device=low_NM.device)
    return ((index >= first_NM.unsqueeze(2)) & (index < end_NM.unsqueeze(2))).float()
