"""Which weight a term has: measured unless it is given, the paper's by name, and called out where it is far off."""

import pytest
from distill_cases import distiller

from kdet.distill import METHODS
from kdet.distill.methods import l2, pkd, rank_mimicking, structural
from kdet.distill.preflight.doubts import doubtful_weights
from kdet.errors import InputError
from kdet.types import GradientRatio

PAPERS = {
    "structural": 4.0,
    "rank_mimicking": 4.0,
    "prediction_guided": 1.5,
    "l2": None,
    "lp": None,
    "hint": 1.0,
    "attention_transfer": 1000.0,
    "cwd": 10.0,
    "pkd": 6.0,
    "cosine": None,
    "mgd": 2e-5,
    "fgd": 1.0,
    "score_weighted": 6.0,
    "soft_labels": None,
    "dist": 1.0,
    "ld": 1.0,
    "crosskd": 1.0,
    "bckd": 1.0,
    "detrdistill": None,
    "clockdistill": None,
    "kd_detr": None,
}


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_is_measured_unless_it_is_given(method: str) -> None:
    assert METHODS[method].weight == "auto" and METHODS[method].published == PAPERS[method]
    assert {term.weight for term in METHODS[method].terms()} == {"auto"}
    assert {term.weight for term in METHODS[method].terms(weight=0.25)} == {0.25}


@pytest.mark.parametrize("method", METHODS)
def test_the_published_weight_is_one_word_away_or_refused(method: str) -> None:
    if PAPERS[method] is None:
        with pytest.raises(InputError, match=f"no weight of {method} was published"):
            METHODS[method].terms(weight="published")
    else:
        assert [term.weight for term in METHODS[method].terms(weight="published")] == [PAPERS[method]]


def test_both_rankings_share_the_published_weight():
    assert [term.weight for term in rank_mimicking("published", rank_by="both")] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("finest", "family", "expected"),
    [
        (4, "retinanet", [8, 16, 32, 64]),
        (4, "faster_rcnn", [4, 8, 16, 32]),
        (2, "retinanet", [8, 16]),
        (None, "retinanet", [8, 16, 32, 64, 128]),
        (9, "retinanet", [8, 16, 32, 64, 128]),
    ],
)
def test_pkd_compares_the_finest_levels(finest: int | None, family: str, expected: list[int]) -> None:
    pair = distiller(pkd(finest=finest) if finest != 4 else pkd(), family)
    assert [level.stride for level in pair.criterion.pairings["pkd"].levels] == expected
    assert [part.name for part in pair.criterion.parts["pkd"]] == [f"pkd/{stride}" for stride in expected]


def test_no_level_at_all_is_refused():
    with pytest.raises(InputError, match="at least one level, got 0"):
        distiller(pkd(finest=0))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (174.0, "pulls 174 times as hard as the task at the student's neck and drowns the task (0.05 to 30 is usual)"),
        (30.1, "drowns the task"),
        (30.0, None),
        (1.0, None),
        (0.05, None),
        (0.049, "does next to nothing"),
        (0.0, None),  # a batch in which the term sees nothing
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_fixed_weights_that_pull_unusually_are_called_out(share: float, expected: str | None) -> None:
    pair = distiller(structural(4.0) + l2())
    found = list(doubtful_weights(pair.criterion, {name: GradientRatio(share, 0.5) for name in ("structural", "l2")}))
    assert len(found) == (expected is not None)  # of the one that is measured, nothing is said
    assert expected is None or (found[0].startswith("structural: weight 4 pulls ") and expected in found[0])


def test_what_auto_would_come_to_is_named():
    pair = distiller(structural(4.0))
    found = list(doubtful_weights(pair.criterion, {"structural": GradientRatio(174.0, 0.0)}))
    assert "pulls 1 times as hard, like a weight of about 0.023" in found[0]  # 4 · 1 / 174
