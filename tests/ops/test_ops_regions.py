"""Maps from boxes and anchors, against a loop over cells and by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.ops.regions import background_mask, box_mask, cell_mask, foreground_by_area

INPUT_HW = (32, 48)
SIZE_HW = (4, 6)
"""Cells of 8×8 pixels."""


def boxes(*corners: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def touched(box: tuple[int, ...], size_hw: tuple[int, int], input_hw: tuple[int, int]) -> set[tuple[int, int]]:
    """Cells that share more than a border with the box, or the one it starts in if there is none."""
    axes = []
    for axis in (0, 1):
        low, high, cells, pixels = box[1 - axis], box[3 - axis], size_hw[axis], input_hw[axis]
        first = min(low * cells // pixels, cells - 1)
        axes.append({first} | {i for i in range(cells) if low * cells < (i + 1) * pixels and high * cells > i * pixels})
    return {(row, column) for row in axes[0] for column in axes[1]}


def filled(*cells: tuple[int, int], value: float = 1.0) -> torch.Tensor:
    out = torch.zeros(1, 1, *SIZE_HW)
    for row, column in cells:
        out[0, 0, row, column] = value
    return out


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ((8, 8, 16, 16), [(1, 1)]),  # one whole cell; its sides do not reach into the neighbours
        ((7, 8, 17, 16), [(1, 0), (1, 1), (1, 2)]),  # a pixel of a cell is enough
        ((9, 9, 10, 10), [(1, 1)]),
        ((40, 24, 48, 32), [(3, 5)]),  # the corner of the image
        ((16, 8, 16, 8), [(1, 2)]),  # without area: the cell on the right and below
        ((48, 32, 48, 32), [(3, 5)]),  # and the last one at the edge
        ((-9, -9, 3, 3), [(0, 0)]),
        ((60, 2, 70, 3), [(0, 5)]),  # outside: the cell at the edge
    ],
)
def test_partial_cells(box, cells):
    assert torch.equal(box_mask([boxes(box)], SIZE_HW, INPUT_HW), filled(*cells))


def test_a_small_object_shows_on_a_large_one():
    """2×3 cells weigh 1/6 each; the object of a single cell in it weighs 1."""
    large, small = (8, 8, 32, 24), (17, 17, 18, 18)
    expected = filled(*[(r, c) for r in (1, 2) for c in (1, 2, 3)], value=1 / 6)
    expected[0, 0, 2, 2] = 1
    for order in ([large, small], [small, large]):
        torch.testing.assert_close(foreground_by_area([boxes(*order)], SIZE_HW, INPUT_HW), expected)


def test_background_adds_up_to_one_in_each_image():
    """Half of the 24 cells lie in the box, then all, then none."""
    given_boxes = [boxes((0, 0, 48, 16)), boxes((0, 0, 48, 32)), boxes()]
    background = background_mask(given_boxes, SIZE_HW, INPUT_HW)
    assert not background[0, 0, :2].any() and torch.equal(background[0, 0, 2:], torch.full((2, 6), 1 / 12))
    assert not background[1].any()
    torch.testing.assert_close(background[2], torch.full((1, 4, 6), 1 / 24))


def test_no_objects_at_all():
    for make in (box_mask, foreground_by_area):
        assert torch.equal(make([boxes(), boxes()], SIZE_HW, INPUT_HW), torch.zeros(2, 1, *SIZE_HW))


def test_images_are_padded_without_a_trace():
    images = [boxes((1, 1, 20, 20), (30, 3, 40, 30)), boxes(), boxes((5, 9, 44, 12))]
    for make in (box_mask, foreground_by_area, background_mask):
        alone = [make([image], SIZE_HW, INPUT_HW) for image in images]
        assert torch.equal(make(images, SIZE_HW, INPUT_HW), torch.cat(alone))


sides = st.integers(1, 9)
corner = st.integers(0, 60)


@settings(max_examples=25)
@given(
    st.tuples(sides, sides),
    st.tuples(st.integers(10, 60), st.integers(10, 60)),
    st.lists(st.tuples(corner, corner, corner, corner), max_size=5),
)
def test_against_a_loop_over_cells(size_hw, input_hw, corners):
    """Any grid on any input, 1×1 included; boxes may be empty or reach beyond the input."""
    given_boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    cells = [touched(box, size_hw, input_hw) for box in given_boxes]
    foreground = torch.zeros(1, 1, *size_hw)
    for covered in cells:
        for row, column in covered:
            foreground[0, 0, row, column] = max(float(foreground[0, 0, row, column]), 1 / len(covered))
    mask = (foreground > 0).float()
    made = foreground_by_area([boxes(*given_boxes)], size_hw, input_hw)
    torch.testing.assert_close(made, foreground)
    assert torch.equal(box_mask([boxes(*given_boxes)], size_hw, input_hw), mask)
    background = background_mask([boxes(*given_boxes)], size_hw, input_hw)
    torch.testing.assert_close(background, (1 - mask) / max(float((1 - mask).sum()), 1.0))


def test_maps_are_float32_and_need_no_gradient():
    for make in (box_mask, foreground_by_area, background_mask):
        made = make([boxes((1, 1, 9, 9)).requires_grad_()], SIZE_HW, INPUT_HW)
        assert made.dtype == torch.float32 and not made.requires_grad


def test_boxes_of_no_image_are_refused():
    with pytest.raises(ValueError, match="expected the boxes of at least one image, got none"):
        box_mask([], SIZE_HW, INPUT_HW)


def test_cells_with_a_positive_anchor():
    """Two anchors a cell, six cells: entry 3 is the second anchor of cell 1, entry 10 the first of cell 5."""
    positive = torch.zeros(2, 12, dtype=torch.bool)
    positive[0, [3, 10]] = True
    mask = cell_mask(positive, (2, 3))
    assert mask.dtype == torch.float32
    assert mask.tolist() == [[[[0, 1, 0], [0, 0, 1]]], [[[0, 0, 0], [0, 0, 0]]]]
    assert torch.equal(cell_mask(positive.view(2, 6, 2), (2, 3)), mask)


def test_other_anchors_are_refused():
    with pytest.raises(ValueError, match=r"expected bool, .*, got torch.int64"):
        cell_mask(torch.zeros(2, 12, dtype=torch.int64), (2, 3))
    with pytest.raises(ValueError, match=r"expected a multiple of 6 anchors for \(2, 3\) cells, got 13"):
        cell_mask(torch.zeros(2, 13, dtype=torch.bool), (2, 3))
