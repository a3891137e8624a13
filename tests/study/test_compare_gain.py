"""The rule of the verdict and the numbers beside it, on runs whose AP is made up."""

import numpy as np
import pytest
from compare_cases import finished

from kdet.study.breakdown import breakdown
from kdet.study.gain import arm_rows, verdict_of

BASE = (0.20, 0.22, 0.21)


def row_of(aps: tuple[float, ...], *, teacher: float | None = 0.5, base: tuple[float, ...] = BASE) -> dict:
    """The row of an arm beside `none`."""
    runs = {"none": [finished(ap) for ap in base], "arm": [finished(ap) for ap in aps]}
    return arm_rows(runs, teacher)[1]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.001, 0.2), "helped"),
        ((0.0, 0.2), "not shown"),
        ((-0.1, 0.2), "not shown"),
        ((-0.2, 0.0), "not shown"),
        ((-0.2, -0.001), "hurt"),
        (None, "not shown"),
    ],
)
def test_the_rule(interval: tuple[float, float] | None, verdict: str) -> None:
    assert verdict_of(interval) == verdict


def test_gain_is_paired_by_seed_and_its_interval_is_students() -> None:
    row = row_of((0.23, 0.24, 0.22))  # gains 0.03, 0.02, 0.01: mean 0.02, s 0.01
    assert row["gain"] == pytest.approx(0.02) and row["AP"] == [0.23, 0.24, 0.22]
    assert row["interval"] == pytest.approx([0.02 - 0.0248414, 0.02 + 0.0248414], abs=1e-7)
    assert row["verdict"] == "not shown"


def test_a_steady_gain_helped_and_a_steady_loss_hurt() -> None:
    assert row_of((0.25, 0.271, 0.26))["verdict"] == "helped"
    assert row_of((0.15, 0.171, 0.16))["verdict"] == "hurt"


def test_pairing_sees_what_the_seeds_own_spread_would_hide() -> None:
    base = (0.1, 0.2, 0.3)
    assert row_of((0.11, 0.211, 0.31), base=base)["verdict"] == "helped"


def test_a_placebo_that_changes_nothing_is_never_shown_to_help() -> None:
    row = row_of(BASE)
    assert row["gain"] == 0 and row["interval"] == [0.0, 0.0] and row["verdict"] == "not shown"


def test_a_placebo_of_mere_noise_is_hardly_ever_shown_to_help() -> None:
    rng = np.random.default_rng(5)
    verdicts = [row_of(tuple(np.array(BASE) + rng.normal(0, 0.01, 3)))["verdict"] for _ in range(400)]
    assert verdicts.count("helped") <= 20 and verdicts.count("not shown") >= 360


def test_one_seed_proves_nothing_however_large_the_gain() -> None:
    row = row_of((0.9,), base=(0.1,))
    assert row["interval"] is None and row["verdict"] == "not shown" and row["gain"] == pytest.approx(0.8)


def test_none_has_neither_gain_nor_verdict() -> None:
    none = arm_rows({"none": [finished(0.2)], "arm": [finished(0.3)]}, 0.5)[0]
    keys = ("gain", "interval", "image_interval", "gap_closed", "verdict")
    assert [none[key] for key in keys] == [None] * 5 and none["cost"]["time"] == 1


def test_keys_are_those_that_scripts_rely_on() -> None:
    expected = {"name", "AP", "gain", "interval", "image_interval", "gap_closed", "cost", "verdict"}
    assert all(set(row) == expected for row in arm_rows({"none": [finished(0.2)], "arm": [finished(0.3)]}, 0.5))


@pytest.mark.parametrize(("teacher", "share"), [(0.31, 0.2), (0.21, None), (0.1, None), (None, None)])
def test_share_of_the_gap_closed(teacher: float | None, share: float | None) -> None:
    found = row_of((0.22, 0.24, 0.23), teacher=teacher)["gap_closed"]
    assert found == (None if share is None else pytest.approx(share))


def test_image_interval_is_that_of_the_mean_over_seeds_on_the_same_images() -> None:
    first, second = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    runs = {
        "none": [finished(0.2, draws=first), finished(0.2, draws=second)],
        "arm": [finished(0.2, draws=[a + 0.01 for a in first]), finished(0.2, draws=[a + 0.03 for a in second])],
    }
    # However much AP swings with the images, the difference is 0.02 in each draw.
    assert arm_rows(runs, None)[1]["image_interval"] == pytest.approx([0.02, 0.02])


def test_cost_is_relative_to_none_and_unknown_memory_stays_unknown() -> None:
    runs = {"none": [finished(0.1, seconds=10)] * 2, "arm": [finished(0.1, seconds=s) for s in (12, 18)]}
    assert arm_rows(runs, None)[1]["cost"] == {"seconds": 15, "time": 1.5, "memory_bytes": 100, "memory": 1}
    blind = {"none": [finished(0.1, memory=None)], "arm": [finished(0.1)]}
    assert arm_rows(blind, None)[1]["cost"]["memory"] is None


def test_breakdown_means_over_seeds_and_leaves_the_unmeasured_open() -> None:
    parts = breakdown({"none": [finished(0.1), finished(0.3)], "arm": [finished(0.4), finished(0.4)]})
    assert parts["classes"] == {"cat": {"none": 0.2, "arm": 0.4}, "dog": {"none": None, "arm": None}}
    assert parts["sizes"]["AP_S"] == pytest.approx({"none": 0.1, "arm": 0.2}) and parts["sizes"]["AP_L"]["arm"] is None
    assert parts["ious"] == {"0.50": pytest.approx({"none": 0.2, "arm": 0.4}), "0.55": {"none": 0.1, "arm": 0.2}}
