"""Kinds of error on images that were made to have one each."""

import sys

import pytest
from evaluate_cases import found, index_of, perturbed, random_index

from kdet.errors import InputError
from kdet.evaluate import coco_metrics, error_types

CAT, DOG = 0, 1
BOX = (0.0, 0.0, 100.0, 100.0)
POOR = (0.0, 0.0, 100.0, 30.0)
"""IoU 0.3 with BOX."""
FAR = (150.0, 150.0, 190.0, 190.0)


def test_each_kind_is_counted_as_what_it_is() -> None:
    index = index_of({i: [(BOX, CAT)] for i in range(0, 7)} | {7: [(BOX, DOG)]})
    predictions = [
        found(0, (BOX, CAT, 0.9)),
        found(1, (BOX, DOG, 0.8)),  # classification
        found(2, (POOR, CAT, 0.7)),  # localisation
        found(3, (POOR, DOG, 0.6)),  # both
        found(4, (BOX, CAT, 0.9), (BOX, CAT, 0.5)),  # duplicate
        found(5, (BOX, CAT, 0.9), (FAR, CAT, 0.4)),  # background
        found(6),  # missed
        found(7, (BOX, DOG, 0.9)),
    ]
    counts = {name: error.count for name, error in error_types(index, predictions).items()}
    kinds = ("classification", "localisation", "both", "duplicate", "background")
    assert {name: counts[name] for name in kinds} == dict.fromkeys(kinds, 1)
    assert (
        counts["missed"] == 2
    )  # the object of image 6, and that of 3, which a wrong class in a poor box does not cover


@pytest.mark.parametrize(
    ("second", "kind"),
    [((POOR, CAT, 0.8), "localisation"), ((FAR, CAT, 0.95), "background"), (None, "missed")],
)
def test_cost_is_the_ap50_that_mending_gains(second: tuple, kind: str) -> None:
    index = index_of({1: [(BOX, CAT)], 2: [(BOX, CAT)]}, classes=["cat"])
    predictions = [found(1, (BOX, CAT, 0.9)), found(2, *([second] if second else []))]
    errors = error_types(index, predictions)
    # One of two objects: precision 1 at 51 of 101 recalls, or 1/2 under a false alarm with a better score.
    expected = {"localisation": 50 / 101, "background": 51 / 101 / 2, "missed": 50 / 101}[kind]
    assert errors[kind].cost == pytest.approx(expected, abs=1e-6)
    others = {"missed"} if kind == "background" else set()  # its second object is missed besides
    assert all(error.cost == 0 for name, error in errors.items() if name not in {kind, *others})


def test_a_perfect_detector_makes_no_error() -> None:
    index = index_of({0: [(BOX, CAT)], 5: [(BOX, DOG), (FAR, CAT)]})
    predictions = [found(0, (BOX, CAT, 0.9)), found(5, (BOX, DOG, 0.9), (FAR, CAT, 0.8))]
    assert coco_metrics(index, predictions).ap == 1
    assert all(error.cost == 0 and error.count == 0 for error in error_types(index, predictions).values())


def test_awkward_ids_crowds_and_ties_pass() -> None:
    index = random_index(0)
    assert sum(error.count for error in error_types(index, perturbed(index)).values()) > 0
    assert error_types(index, [])["missed"].count == int((~index.crowd).sum())


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(InputError, match=r"kdet\[report\]"):
        error_types(index_of({1: [(BOX, CAT)]}), [])
