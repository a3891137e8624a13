"""GFL: its losses, distributions and boxes, by hand."""

import math

import pytest
import torch
from torch import Tensor

from kdet.detectors.plain.box_coding import paired_iou
from kdet.detectors.plain.gfl import REG_MAX, GFLHead, RegressionHead
from kdet.detectors.plain.gfl_losses import distribution_focal_loss, expectation, quality_focal_loss

LN2, LN3, LN17 = math.log(2), math.log(3), math.log(17)
ANCHORS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])
HALF_QUARTERS = torch.tensor([math.log(2), 0.0, 0.0])
"""Three bins with the shares 1/2, 1/4, 1/4."""


@pytest.mark.parametrize(
    ("logit", "quality", "expected"),
    [
        (0, 1, 0.25 * LN2),
        (0, 0, 0.25 * LN2),
        (0, 0.5, 0),
        # σ = 3/4 against 1/4: (1/2)² times -(1/4 ln 3/4 + 3/4 ln 1/4).
        (LN3, 0.25, 0.25 * (0.25 * math.log(4 / 3) + 0.75 * math.log(4))),
    ],
)
def test_quality_focal_loss_by_hand(logit: float, quality: float, expected: float) -> None:
    value = quality_focal_loss(torch.tensor(float(logit)), torch.tensor(float(quality)))
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (0, LN2),
        (1, 2 * LN2),
        (0.25, 0.75 * LN2 + 0.25 * 2 * LN2),
        (2, 2 * LN2),
        (7, 2 * LN2),  # beyond the last bin counts as the last
    ],
)
def test_distribution_focal_loss_by_hand(place: float, expected: float) -> None:
    value = distribution_focal_loss(HALF_QUARTERS.reshape(1, 1, 3), torch.tensor([[float(place)]]))
    assert value.item() == pytest.approx(expected)


def test_distribution_focal_loss_is_least_where_the_two_bins_share_by_distance() -> None:
    logits = torch.zeros(1, 1, 5, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        distribution_focal_loss(logits, torch.tensor([[2.3]])).sum().backward()
        optimizer.step()
    torch.testing.assert_close(logits.softmax(-1)[0, 0, 2:4], torch.tensor([0.7, 0.3]), atol=0.01, rtol=0)
    assert expectation(logits).item() == pytest.approx(2.3, abs=0.02)


def test_the_expectation_of_a_distribution() -> None:
    assert expectation(HALF_QUARTERS).item() == pytest.approx(0.75)
    assert expectation(torch.zeros(REG_MAX + 1)).item() == pytest.approx(8)


def losses(
    distances: list[list[float]],
    boxes: list[list[float]],
    matched: list[int],
    *,
    logits: Tensor | None = None,
    edges: Tensor | None = None,
    strides: tuple[int, ...] = (8,),
) -> dict[str, float]:
    """Of one image with two anchors and two class columns; every object is of class 1."""
    outputs = {
        "cls_logits": torch.zeros(1, 2, 2) if logits is None else logits,
        "bbox_regression": torch.tensor([distances]),
        "edge_logits": torch.zeros(1, 2, 4, REG_MAX + 1) if edges is None else edges,
    }
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.ones(len(boxes), dtype=torch.int64)}
    head, counts = GFLHead(8, 2, strides), [2 // len(strides)] * len(strides)
    found = head.compute_loss([target], outputs, [ANCHORS], [torch.tensor(matched)], counts)
    return {name: value.item() for name, value in found.items()}


def test_one_exact_positive_by_hand() -> None:
    # The first anchor's centre (4, 4) is 4, 4, 12, 12 pixels from the edges of [0, 0, 16, 16]: the quality is 1.
    found = losses([[4, 4, 12, 12], [1, 1, 1, 1]], [[0, 0, 16, 16]], [0, -1])
    assert found["classification"] == pytest.approx(4 * 0.25 * LN2)  # four scores of 1/2, each 1/2 off
    assert found["bbox_regression"] == pytest.approx(0, abs=1e-6)
    assert found["bbox_distribution"] == pytest.approx(0.25 * LN17)


def test_the_class_target_is_the_iou_of_the_predicted_box() -> None:
    # [0, 0, 8, 16] is half of the object, so that the score of 1/2 at its label is right and three others are 1/2 off.
    found = losses([[4, 4, 4, 12], [1, 1, 1, 1]], [[0, 0, 16, 16]], [0, -1])
    assert found["classification"] == pytest.approx(3 * 0.25 * LN2)
    assert found["bbox_regression"] == pytest.approx(2 * 0.5)


def test_boxes_count_by_their_highest_score() -> None:
    # Scores 1/2 and 3/4; the first box is exact, the second half of its object.
    logits = torch.tensor([[[0.0, 0.0], [LN3, 0.0]]])
    found = losses([[4, 4, 12, 12], [4, 4, 4, 12]], [[0, 0, 16, 16], [8, 0, 24, 16]], [0, 1], logits=logits)
    assert found["bbox_regression"] == pytest.approx(2 * (0.5 * 0 + 0.75 * 0.5) / 1.25, abs=1e-6)


def test_places_are_counted_in_strides_of_the_anchors_own_level() -> None:
    # The second anchor lies on the level of stride 16: (12, 4) is 16 pixels, one bin, from each edge.
    edges = torch.zeros(1, 2, 4, REG_MAX + 1)
    edges[..., 1] = 40.0
    box = [[-4, -12, 28, 20]]
    assert losses([[16.0] * 4] * 2, box, [-1, 0], edges=edges, strides=(8, 16))["bbox_distribution"] < 1e-6
    assert losses([[16.0] * 4] * 2, box, [-1, 0], edges=edges, strides=(8, 8))["bbox_distribution"] > 5


def test_each_edge_has_its_own_place() -> None:
    # From (4, 4) the edges of [-4, -12, 28, 36] are 8, 16, 24 and 32 pixels away: bins 1, 2, 3 and 4.
    edges = torch.zeros(1, 2, 4, REG_MAX + 1)
    edges[..., torch.arange(4), torch.arange(4) + 1] = 40.0
    right, wrong = (
        losses([[8, 16, 24, 32]] * 2, [[-4, -12, 28, 36]], [0, -1], edges=e)["bbox_distribution"]
        for e in (edges, edges.roll(2, dims=2))
    )
    assert right < 1e-6 and wrong > 5


def test_without_objects_only_the_classes_cost_something() -> None:
    found = losses([[1.0] * 4] * 2, [], [-1, -1])
    assert found == {"classification": pytest.approx(LN2), "bbox_regression": 0, "bbox_distribution": 0}


def test_edges_come_in_the_order_left_top_right_bottom_and_in_pixels() -> None:
    head = RegressionHead(8, (8, 16))
    for edge in range(4):
        bias = torch.zeros(4, REG_MAX + 1)
        bias[torch.arange(4), torch.arange(4) + 1] = 60.0  # certain: bins 1, 2, 3, 4
        head.bbox_reg.bias = torch.nn.Parameter(bias.flatten())
        found = head([torch.zeros(1, 8, 1, 1)] * 2)
        assert found["edge_logits"].shape == (1, 2, 4, REG_MAX + 1)
        for level, stride in enumerate((8, 16)):
            assert found["bbox_regression"][0, level, edge].item() == pytest.approx((edge + 1) * stride)


def test_iou_of_pairs_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [1, 1, 1, 1]])
    second = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [1, 1, 1, 1]])
    torch.testing.assert_close(paired_iou(first, second), torch.tensor([1, 1 / 3, 0, 0]))
