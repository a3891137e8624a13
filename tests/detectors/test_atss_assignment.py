"""ATSS' choice of positives, on grids small enough for paper."""

import math
from statistics import mean, stdev

import pytest
import torch
from torch import Tensor

from kdet.detectors.plain.assigning import assign_adaptively

ROW = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8]])
"""One level: three anchors side by side, centres at 4, 12 and 20."""
QUARTERS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]])


def assigned(boxes: list[list[float]], anchors: Tensor = ROW, levels: tuple[int, ...] = (3,), k: int = 9) -> list[int]:
    return assign_adaptively(torch.tensor(boxes).reshape(-1, 4), anchors, levels, num_candidates=k).tolist()


def test_the_bar_is_mean_plus_deviation_of_the_candidates() -> None:
    # IoUs 1/2, 1/2, 0: of all three the bar is 1/3 + √(1/12) = 0.62; of the two nearest 1/2 + 0.
    wide = [[0.0, 0, 16, 8]]
    assert assigned(wide) == [-1, -1, -1]
    assert assigned(wide, k=2) == [0, 0, -1]


def test_candidates_come_from_every_level() -> None:
    # IoUs 1/4 four times and 1: mean 0.4, deviation √(0.45 / 4) = 0.335, so that the large anchor alone passes.
    anchors = torch.cat([QUARTERS, torch.tensor([[0.0, 0, 16, 16]])])
    square = [[0.0, 0, 16, 16]]
    assert assigned(square, anchors, (4, 1)) == [-1, -1, -1, -1, 0]
    # With one candidate a level, 1/4 and 1: the bar is 0.625 + 0.530 of a sample (of a population 1.0, which 1 passes).
    assert assigned(square, anchors, (4, 1), k=1) == [-1] * 5
    # Were all five of one level, a single candidate would be the nearest, and its bar its own IoU.
    assert assigned(square, anchors, (5,), k=1) == [-1, -1, -1, -1, 0]


@pytest.mark.parametrize(("right", "expected"), [(3.9, -1), (4.0, -1), (4.1, 0)])
def test_the_centre_must_lie_inside_strictly(right: float, expected: int) -> None:
    assert assigned([[0.0, 0, right, 8]], k=1) == [expected, -1, -1]


@pytest.mark.parametrize(("order", "winner"), [((0, 1), 0), ((1, 0), 1)])
def test_an_anchor_of_two_objects_goes_to_the_higher_iou(order: tuple[int, int], winner: int) -> None:
    boxes = [[0.0, 0, 8, 8], [0.0, 0, 8, 6]]  # IoU 1 and 3/4 with the first anchor
    assert assigned([boxes[i] for i in order], k=1) == [winner, -1, -1]


def test_each_object_has_its_own_bar() -> None:
    assert assigned([[16.0, 0, 24, 8], [0.0, 0, 8, 6]], k=1) == [1, -1, 0]


def test_no_object_leaves_background_alone() -> None:
    assert assigned([]) == [-1, -1, -1]


def test_boxes_of_another_precision_meet_the_anchors() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8]], dtype=torch.float64)
    assert assign_adaptively(boxes, ROW, (3,), num_candidates=1).tolist() == [0, -1, -1]


def naive(boxes: list[list[float]], anchors: list[list[float]], levels: list[int], k: int) -> list[int]:
    """Algorithm 1 of the paper, object by object."""
    centres = [((a[0] + a[2]) / 2, (a[1] + a[3]) / 2) for a in anchors]
    best = [(0.0, -1)] * len(anchors)
    for index, box in enumerate(boxes):
        own = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        candidates, start = list[int](), 0
        for count in levels:
            candidates += sorted(range(start, start + count), key=lambda i: math.dist(own, centres[i]))[:k]
            start += count
        overlaps = {i: iou(box, anchors[i]) for i in candidates}
        bar = mean(overlaps.values()) + stdev(overlaps.values())
        for i, overlap in overlaps.items():
            x, y = centres[i]
            if overlap >= bar and box[0] < x < box[2] and box[1] < y < box[3] and overlap > best[i][0]:
                best[i] = (overlap, index)
    return [index for _, index in best]


def iou(one: list[float], other: list[float]) -> float:
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_papers_algorithm(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors: list[list[float]] = []
    levels: list[int] = []
    for stride, side in ((8, 32), (16, 64), (32, 128)):
        cells = [(x * stride, y * stride) for y in range(96 // stride) for x in range(96 // stride)]
        anchors += [[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in cells]
        levels.append(len(cells))
    corners = 60 * torch.rand(6, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corners, corners + 4 + 50 * torch.rand(6, 2, generator=generator, dtype=torch.float64)], 1)
    exact = torch.tensor(anchors, dtype=torch.float64)
    found = assign_adaptively(boxes, exact, levels).tolist()
    assert found == naive(boxes.tolist(), anchors, levels, 9)
    assert len(set(found)) > 3
