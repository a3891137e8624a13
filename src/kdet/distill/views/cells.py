"""Where two models lay other anchors, the cell is what they share.

Legend: P positive candidates of the batch, A anchors of all levels or of one cell.
"""

import torch
from torch import Tensor

from kdet.distill.views.anchors import same_in_cell
from kdet.distill.views.base import StepContext
from kdet.errors import InputError
from kdet.types import Observation


def same_anchors(context: StepContext) -> bool:
    """Whether anchor i of the student stands where anchor i of the teacher stands."""
    student, teacher = context.student, context.teacher
    counted = (student.cells_hw, student.anchors_per_cell) == (teacher.cells_hw, teacher.anchors_per_cell)
    return counted and all(map(same_in_cell, student.levels, teacher.levels))


def shared_cells(context: StepContext, anchor_P: Tensor, object_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells of the student's positives that the teacher has too, each once an object.

    Returns:
        Rows among the P positives, one per (object, cell); the student's anchors of those cells, rows×A; the
        teacher's, rows×A. A cell with fewer anchors than another repeats its last.

    Raises:
        InputError: the paired levels have other grids, so there are no common cells.
    """
    student, teacher = context.student, context.teacher
    partner = torch.full((len(student.cells_hw),), -1, dtype=torch.int64, device=anchor_P.device)
    exact = [pair for pair in context.pairing.levels if pair.exact]
    for pair in exact or context.pairing.levels:  # a level that is resized has no cell in common
        if student.cells_hw[pair.student] != teacher.cells_hw[pair.teacher]:
            raise InputError(
                f"rank mimicking needs common cells: at stride {pair.stride} the student has a grid of "
                f"{student.cells_hw[pair.student]}, the teacher of {teacher.cells_hw[pair.teacher]}; "
                "use feature terms (structural, lp) for this pair"
            )
        partner[pair.student] = pair.teacher
    starts, per_cell = _layout(student, anchor_P)
    level = torch.bucketize(anchor_P, starts[1:], right=True)
    cell = (anchor_P - starts[level]) // per_cell[level]
    rows = _first_of_each(torch.stack([object_P, level, cell], dim=1), partner[level] >= 0)
    level, cell = level[rows], cell[rows]
    return rows, _anchors(student, level, cell), _anchors(teacher, partner[level], cell)


def _layout(observation: Observation, like: Tensor) -> tuple[Tensor, Tensor]:
    """First anchor of each level (and the end), and anchors per cell of each level."""
    per_cell = torch.tensor(observation.anchors_per_cell, device=like.device)
    cells = torch.tensor([h * w for h, w in observation.cells_hw], device=like.device)
    ends = (cells * per_cell).cumsum(0)
    return torch.cat([ends.new_zeros(1), ends]), per_cell


def _anchors(observation: Observation, level: Tensor, cell: Tensor) -> Tensor:
    """All anchors of these cells."""
    starts, per_cell = _layout(observation, level)
    offset = torch.arange(int(max(observation.anchors_per_cell)), device=level.device)
    inside = torch.minimum(offset[None], per_cell[level][:, None] - 1)
    return (starts[level] + cell * per_cell[level])[:, None] + inside


def _first_of_each(keys: Tensor, allowed: Tensor) -> Tensor:
    """Row of the first of each distinct key, of the rows that are allowed, in ascending order."""
    rows = torch.where(allowed)[0]
    _, group = keys[rows].unique(dim=0, return_inverse=True)
    first = torch.full_like(rows, len(keys)).scatter_reduce(0, group, rows, reduce="amin")
    return first[first < len(keys)].sort().values
