"""ATSS: its losses and scores, by hand."""

import math

import pytest
import torch
from torch import Tensor

from kdet.detectors.plain.atss import ATSSHead
from kdet.detectors.plain.box_coding import MOST_GROWTH, centreness, decode_deltas

ANCHORS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])
LN2 = math.log(2)


def losses(
    deltas: list[list[float]], boxes: list[list[float]], matched: list[int], logits: Tensor | None = None
) -> dict[str, float]:
    """Of one image with two anchors and two class columns; every object is of class 1."""
    outputs = {
        "cls_logits": torch.zeros(1, 2, 2) if logits is None else logits,
        "bbox_regression": torch.tensor([deltas]),
        "bbox_ctrness": torch.zeros(1, 2, 1),
    }
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.ones(len(boxes), dtype=torch.int64)}
    head = ATSSHead(8, 2, 1)
    return {k: v.item() for k, v in head.compute_loss([target], outputs, [ANCHORS], [torch.tensor(matched)]).items()}


def test_one_positive_by_hand() -> None:
    # Δx = 5 / 10 of 8 pixels: the box [4, 0, 12, 8] overlaps [0, 0, 8, 8] by 32 of 96, and fills their hull: GIoU 1/3.
    found = losses([[5, 0, 0, 0], [0, 0, 0, 0]], [[0, 0, 8, 8]], [0, -1])
    # Focal at a score of 1/2: 1/4 · 1/4 · ln 2 for the positive, 3/4 · 1/4 · ln 2 for each of three negatives.
    assert found["classification"] == pytest.approx(0.625 * LN2)
    assert found["bbox_regression"] == pytest.approx(2 * 2 / 3)
    assert found["bbox_ctrness"] == pytest.approx(LN2)  # BCE of a logit of 0 against a centreness of 1


def test_boxes_count_by_centreness_and_the_rest_by_the_number_of_positives() -> None:
    # The second anchor's centre is (12, 4): in [8, 0, 24, 16] it has l, r = 4, 12 and t, b = 4, 12: centreness 1/3.
    # Its box covers 64 of 256 pixels inside the object: GIoU 1/4. The first box is exact.
    found = losses([[0.0] * 4] * 2, [[0, 0, 8, 8], [8, 0, 24, 16]], [0, 1])
    assert found["bbox_regression"] == pytest.approx(2 * (1 * 0 + 1 / 3 * 3 / 4) / (4 / 3), rel=1e-5)
    assert found["classification"] == pytest.approx((2 * 1 / 16 + 2 * 3 / 16) * LN2 / 2)
    assert found["bbox_ctrness"] == pytest.approx(LN2)


def test_a_confident_right_answer_costs_next_to_nothing_and_a_wrong_column_much() -> None:
    right = torch.tensor([[[-9.0, 9.0], [-9.0, -9.0]]])
    assert losses([[0.0] * 4] * 2, [[0, 0, 8, 8]], [0, -1], right)["classification"] < 1e-6
    assert losses([[0.0] * 4] * 2, [[0, 0, 8, 8]], [0, -1], right.flip(-1))["classification"] > 5


def test_without_objects_only_the_classes_cost_something() -> None:
    found = losses([[0.0] * 4] * 2, [], [-1, -1])
    assert found == {"classification": pytest.approx(0.75 * LN2), "bbox_regression": 0, "bbox_ctrness": 0}


def test_centreness_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 16, 16], [0, 0, 8, 16], [4, 0, 8, 8]])
    anchors = ANCHORS[:1].expand(4, 4)
    torch.testing.assert_close(centreness(anchors, boxes), torch.tensor([1, 1 / 3, 3**-0.5, 0]))


def test_deltas_move_and_grow_the_anchor() -> None:
    deltas = torch.tensor([[5.0, -10, 5 * LN2, 0], [0, 0, 5000, 0]])
    boxes = decode_deltas(deltas, ANCHORS)
    torch.testing.assert_close(boxes[0], torch.tensor([0.0, -8, 16, 0]))  # 4 right, 8 up, twice as wide
    assert boxes[1, 2] - boxes[1, 0] == pytest.approx(8 * math.exp(MOST_GROWTH))
