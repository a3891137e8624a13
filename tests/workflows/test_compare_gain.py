"""The rule of the verdict and the numbers beside it, on runs whose AP is made up."""

import numpy as np
import pytest
from compare_cases import finished
from scipy import stats

from kdet.workflows.compare.breakdown import breakdown
from kdet.workflows.compare.gain import arm_rows, verdict_of

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
    keys = ("gain", "interval", "image_interval", "gap_closed", "verdict", "p", "holm")
    assert [none[key] for key in keys] == [None] * 7


def test_keys_are_those_that_scripts_rely_on() -> None:
    expected = {"name", "AP", "gain", "interval", "image_interval", "gap_closed", "cost", "verdict"}
    assert all(
        set(row) == expected | {"p", "holm", "training_seconds", "times", "steps", "time"}
        for row in arm_rows({"none": [finished(0.2)], "arm": [finished(0.3)]}, 0.5)
    )


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


def test_cost_is_that_of_a_step_relative_to_nones_and_how_long_training_took_is_told_apart() -> None:
    """The runs say nothing of it: here the arm ran alone, twice as fast as `none`."""
    runs = {"none": [finished(0.1, seconds=20)] * 2, "arm": [finished(0.1, seconds=s) for s in (8, 12)]}
    steps = {"none": {"seconds": 0.2, "memory_bytes": 100}, "arm": {"seconds": 0.25, "memory_bytes": 150}}
    none, arm = arm_rows(runs, None, steps)
    assert arm["cost"] == {"time": 1.25, "memory": 1.5, "step_seconds": 0.25, "step_bytes": 150}
    assert none["cost"]["time"] == none["cost"]["memory"] == 1
    assert (none["training_seconds"], arm["training_seconds"]) == (20, 10)


def test_a_step_that_was_not_measured_has_no_cost() -> None:
    rows = arm_rows({"none": [finished(0.1)], "arm": [finished(0.1)]}, None)
    assert all(value is None for row in rows for value in row["cost"].values())


def test_among_many_arms_holm_asks_for_more_than_the_single_verdict() -> None:
    """Gains of one arm are steady enough alone, and for the first of four they are not."""
    gains = {
        "sure": (0.05, 0.0505, 0.051),
        "just": (0.02, 0.026, 0.03),
        "bad": (-0.05, -0.0505, -0.051),
        "same": (0, 0, 0),
    }
    runs = {"none": [finished(ap) for ap in BASE]}
    runs |= {name: [finished(ap + gain) for ap, gain in zip(BASE, of, strict=True)] for name, of in gains.items()}
    rows = {row["name"]: row for row in arm_rows(runs, 0.5)}
    expected = {name: stats.ttest_1samp(of, 0).pvalue for name, of in gains.items() if name != "same"} | {"same": 1.0}
    for name, p in expected.items():
        assert rows[name]["p"] == pytest.approx(p, rel=1e-6)
    # By hand: p of `just` is 0.0132; sure and bad come first, so it has to be below 0.05 / 2 here …
    assert 0.0125 < rows["just"]["p"] < 0.025 and rows["just"]["holm"] == "helped"
    assert [rows[name]["holm"] for name in ("sure", "bad", "same")] == ["helped", "hurt", "not shown"]
    # … and below 0.05 / 4 where it is the smallest of four.
    noise = {f"noise{i}": [finished(ap + d) for ap, d in zip(BASE, (-0.01, 0.01, 0.0), strict=True)] for i in range(3)}
    alone, *_ = arm_rows({"none": runs["none"], "just": runs["just"], **noise}, 0.5)[1:]
    assert alone["verdict"] == "helped" and alone["holm"] == "not shown"


def test_holms_verdict_of_a_single_arm_is_its_own() -> None:
    assert row_of((0.25, 0.271, 0.26))["holm"] == "helped" and row_of((0.23, 0.24, 0.22))["holm"] == "not shown"


def test_breakdown_means_over_seeds_and_leaves_the_unmeasured_open() -> None:
    parts = breakdown({"none": [finished(0.1), finished(0.3)], "arm": [finished(0.4), finished(0.4)]})
    assert parts["classes"] == {"cat": {"none": 0.2, "arm": 0.4}, "dog": {"none": None, "arm": None}}
    assert parts["sizes"]["AP_S"] == pytest.approx({"none": 0.1, "arm": 0.2}) and parts["sizes"]["AP_L"]["arm"] is None
    assert parts["ious"] == {"0.50": pytest.approx({"none": 0.2, "arm": 0.4}), "0.55": {"none": 0.1, "arm": 0.2}}
