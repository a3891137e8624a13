"""A teacher's answers on a whole image, moved to a flipped, cropped or resized view of it.

Legend: as in `kdet.types`, N = 1.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdet.distill.views.anchors import same_in_cell
from kdet.types import Observation, SizeHW

_ABOUT_THE_SAME = 0.5
"""IoU of two anchors; the sizes of objects are taken by octaves, too."""
_NOTHING = math.log(0.01 / 0.99)
"""Class logit where the whole image has no cell: the prior with which dense heads begin."""


def moved(
    whole: Observation, strides: Sequence[int], size_hw: SizeHW, corners: Tensor, canvas_hw: SizeHW
) -> Observation:
    """Return what the teacher said about the whole image, on the grid of a view.

    Every cell of the view takes the answer of the cell in which its centre lay, on the level where objects were as
    large as that level's are now; boxes move with the pixels. Queries keep their order, and those whose centre left the
    view find nothing any more. This is not what the teacher would say about the view: it does not see the new edges,
    the new size of the objects, or other colours.

    Args:
        whole: class logits and boxes, or queries, of one image; a sigmoid head's.
        strides: of its levels.
        size_hw: of the image on the whole view's canvas, without padding.
        corners: 2×2, where top left and bottom right of the image lie in the view; see `Sample.corners`.
        canvas_hw: of the view.
    """
    height, width = size_hw
    scale = (corners[1] - corners[0]) / corners.new_tensor([width, height])
    changes: dict[str, Tensor | None] = {}
    if whole.query_logits is not None and whole.query_boxes is not None:
        boxes = _move(whole.query_boxes, scale, corners[0])
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        inside = ((centres >= 0) & (centres < centres.new_tensor([canvas_hw[1], canvas_hw[0]]))).all(-1)
        changes |= {"query_boxes": boxes, "query_logits": whole.query_logits.where(inside[..., None], _NOTHING)}
    cells_hw = [(math.ceil(canvas_hw[0] / stride), math.ceil(canvas_hw[1] / stride)) for stride in strides]
    if whole.cells_hw:
        source, found = _sources(whole, strides, size_hw, corners[0], scale, cells_hw)
        for name, empty in (("class_logits", _NOTHING), ("quality_logits", 0.0), ("boxes", 0.0)):
            values: Tensor | None = getattr(whole, name)
            if values is not None:
                values = _move(values, scale, corners[0]) if name == "boxes" else values
                there = found if values.ndim == 2 else found[:, None]
                changes[name] = values[0, source].where(there, empty)[None]
    return replace(whole, input_size_hw=canvas_hw, cells_hw=tuple(cells_hw) if whole.cells_hw else (), **changes)


def _sources(
    whole: Observation, strides: Sequence[int], size_hw: SizeHW, origin: Tensor, scale: Tensor, cells_hw: list[SizeHW]
) -> tuple[Tensor, Tensor]:
    """Find for every anchor of the view the whole image's anchor that answers for it, and whether there is one."""
    counts = [h * w * a for (h, w), a in zip(whole.cells_hw, whole.anchors_per_cell, strict=True)]
    shift = round(math.log2(float(scale.prod().abs())) / 2)  # an object of twice the size belongs one level further up
    sources: list[Tensor] = []
    found: list[Tensor] = []
    for level, ((rows, columns), stride) in enumerate(zip(cells_hw, strides, strict=True)):
        of, anchors = level - shift, whole.anchors_per_cell[level]
        if not 0 <= of < len(strides) or not _comparable(whole, of, level):
            sources.append(torch.zeros(rows * columns * anchors, dtype=torch.int64, device=scale.device))
            found.append(torch.zeros(rows * columns * anchors, dtype=torch.bool, device=scale.device))
            continue
        x = ((torch.arange(columns, device=scale.device) + 0.5) * stride - origin[0]) / scale[0]
        y = ((torch.arange(rows, device=scale.device) + 0.5) * stride - origin[1]) / scale[1]
        column = (x / strides[of]).floor().long().clamp(0, whole.cells_hw[of][1] - 1)
        row = (y / strides[of]).floor().long().clamp(0, whole.cells_hw[of][0] - 1)
        cell = row[:, None] * whole.cells_hw[of][1] + column
        anchor = sum(counts[:of]) + cell[..., None] * anchors + torch.arange(anchors, device=scale.device)
        inside = ((y >= 0) & (y < size_hw[0]))[:, None] & (x >= 0) & (x < size_hw[1])
        sources.append(anchor.flatten())
        found.append(inside[..., None].expand(rows, columns, anchors).flatten())
    return torch.cat(sources), torch.cat(found)


def _comparable(whole: Observation, of: int, level: int) -> bool:
    """Whether anchor i of one level is to its cells about what anchor i of another is to those of that."""
    counts, levels = whole.anchors_per_cell, whole.levels
    return counts[of] == counts[level] and same_in_cell(levels[of], levels[level], _ABOUT_THE_SAME)


def _move(boxes: Tensor, scale: Tensor, origin: Tensor) -> Tensor:
    """Boxes …×4 of the whole image in pixels of the view; left and right change places where it is flipped."""
    points = boxes.unflatten(-1, (2, 2)) * scale + origin
    return torch.cat([points.amin(-2), points.amax(-2)], dim=-1)
