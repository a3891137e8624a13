"""Answers on a whole image, moved to a view of it: each cell's answer says where it came from."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdet.distill.cache.warp import moved
from kdet.types import Level, Observation

STRIDES = (8, 16, 32)
NOTHING = math.log(0.01 / 0.99)


def whole(height: int = 64, width: int = 96, anchors: int = 2) -> Observation:
    """Class logits are stride, x and y of the cell's centre, and anchor; boxes are stride x stride around it."""
    logits: list[list[float]] = []
    cells = [(height // stride, width // stride) for stride in STRIDES]
    for stride, (rows, columns) in zip(STRIDES, cells, strict=True):
        for row in range(rows):
            for column in range(columns):
                logits += [[stride, (column + 0.5) * stride, (row + 0.5) * stride, a] for a in range(anchors)]
    values = torch.tensor(logits)
    half = values[:, :1] / 2
    return Observation(
        levels=tuple(Level(str(stride), 4, stride) for stride in STRIDES),
        input_size_hw=(height, width),
        class_logits=values[None],
        quality_logits=values[None, :, 0],
        boxes=torch.cat([values[:, 1:3] - half, values[:, 1:3] + half], 1)[None],
        anchors_per_cell=(anchors,) * len(STRIDES),
        cells_hw=tuple(cells),
    )


def view(
    corners: list[list[float]], canvas_hw: tuple[int, int] = (64, 96), **options: int
) -> tuple[Observation, Tensor]:
    """The moved answers, and the centre of each anchor's cell in the view."""
    seen = moved(whole(), STRIDES, (64, 96), torch.tensor(corners), canvas_hw)
    own = whole(*canvas_hw)
    assert own.class_logits is not None
    assert seen.cells_hw == own.cells_hw and seen.input_size_hw == canvas_hw
    return seen, own.class_logits[0]


def test_the_whole_image_itself_stays_as_it_is() -> None:
    seen, own = view([[0, 0], [96, 64]])
    assert seen.class_logits is not None and seen.boxes is not None and seen.quality_logits is not None
    assert torch.equal(seen.class_logits[0], own)
    assert torch.equal(seen.boxes, whole().boxes) and torch.equal(seen.quality_logits[0], own[:, 0])


def test_a_flip_mirrors_cells_and_boxes() -> None:
    seen, own = view([[96, 0], [0, 64]])
    assert seen.class_logits is not None and seen.boxes is not None
    assert torch.equal(seen.class_logits[0, :, 1], 96 - own[:, 1])
    assert torch.equal(seen.class_logits[0, :, [0, 2, 3]], own[:, [0, 2, 3]])
    centres = (seen.boxes[0, :, :2] + seen.boxes[0, :, 2:]) / 2
    assert torch.equal(centres, own[:, 1:3]) and (seen.boxes[0, :, 2:] > seen.boxes[0, :, :2]).all()


def test_a_crop_takes_the_cells_that_lie_there_and_knows_nothing_beyond() -> None:
    seen, own = view([[-32, -32], [64, 32]], (64, 64))
    assert seen.class_logits is not None
    inside = (own[:, 1] < 64) & (own[:, 2] < 32)
    assert torch.equal(seen.class_logits[0, inside, 1:3], own[inside, 1:3] + 32)
    assert torch.equal(seen.class_logits[0, ~inside], torch.full((int((~inside).sum()), 4), NOTHING))


def test_at_twice_the_size_answers_move_one_level_up() -> None:
    seen, own = view([[0, 0], [192, 128]], (128, 192))
    assert seen.class_logits is not None and seen.boxes is not None
    lowest = own[:, 0] == 8
    assert (seen.class_logits[0, lowest] == NOTHING).all()
    assert torch.equal(seen.class_logits[0, ~lowest, :3], own[~lowest, :3] / 2)
    sizes = seen.boxes[0, ~lowest, 2:] - seen.boxes[0, ~lowest, :2]
    assert torch.equal(sizes, own[~lowest, :1].expand(-1, 2))


def test_a_level_with_anchors_of_another_shape_has_no_answer_for_its_neighbour() -> None:
    square, tall = (-1.0, -1.0, 1.0, 1.0), (-0.5, -2.0, 0.5, 2.0)
    image = whole()
    for second, found in (((square, tall), True), ((tall, square), False)):
        first, middle, last = image.levels
        levels = (
            replace(first, anchors=(square, tall)),
            replace(middle, anchors=second),
            replace(last, anchors=(square, tall)),
        )
        corners, canvas_hw = torch.tensor([[0.0, 0.0], [192.0, 128.0]]), (128, 192)
        seen = moved(replace(image, levels=levels), STRIDES, (64, 96), corners, canvas_hw)
        assert seen.class_logits is not None
        at_16 = whole(*canvas_hw).class_logits[0, :, 0] == 16
        assert bool((seen.class_logits[0, at_16] != NOTHING).all()) == found


def test_queries_move_and_fall_silent_outside() -> None:
    queries = Observation(
        levels=(),
        input_size_hw=(64, 96),
        query_logits=torch.tensor([[[1.0], [2.0]]]),
        query_boxes=torch.tensor([[[0.0, 0.0, 10.0, 20.0], [60.0, 0.0, 90.0, 60.0]]]),
    )
    seen = moved(queries, STRIDES, (64, 96), torch.tensor([[48.0, 0.0], [-48.0, 64.0]]), (64, 48))
    assert seen.query_boxes is not None and seen.query_logits is not None
    assert seen.query_boxes.tolist() == [[[38.0, 0.0, 48.0, 20.0], [-42.0, 0.0, -12.0, 60.0]]]
    assert seen.query_logits.flatten().tolist() == pytest.approx([1.0, NOTHING])
    assert seen.cells_hw == ()
