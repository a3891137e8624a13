"""How much two sets of detections differ."""

from collections.abc import Sequence

import pytest
from evaluate_cases import found

from kdet.evaluate import difference

BOX, SHIFTED, ELSEWHERE = (0, 0, 40, 40), (4, 0, 44, 40), (100, 100, 140, 140)
Row = tuple[tuple[int, int, int, int], int, float]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], [], 0.0),
        ([(BOX, 0, 0.9)], [(BOX, 0, 0.9)], 0.0),
        ([(BOX, 0, 0.9)], [(SHIFTED, 0, 0.6)], 0.3),
        ([(BOX, 0, 0.9)], [], 0.9),
        ([(BOX, 0, 0.9)], [(ELSEWHERE, 0, 0.5)], 1.4),
        ([(BOX, 0, 0.9)], [(BOX, 1, 0.5)], 1.4),  # another class is another object
        ([(BOX, 0, 0.29)], [], 0.0),  # not drawn, so not counted
        ([(BOX, 0, 0.9), (SHIFTED, 0, 0.4)], [(BOX, 0, 0.9)], 0.4),  # one partner each
        ([(SHIFTED, 0, 0.4), (BOX, 0, 0.9)], [(BOX, 0, 0.9)], 0.4),  # the better score chooses first
    ],
)
def test_by_hand(one: Sequence[Row], other: Sequence[Row], expected: float) -> None:
    assert difference(found(1, *one), found(1, *other)) == pytest.approx(expected)
    assert difference(found(1, *other), found(1, *one)) == pytest.approx(expected)
