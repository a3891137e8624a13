"""The student alone for longer: what its runs are, what methods are compared with, and AP against training time."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from compare_cases import PLACEBO, Here, finished, recipe_in
from scipy import stats

from kdet.errors import InputError
from kdet.train.optim import learning_rate
from kdet.workflows.compare.arm_costs import STEPS
from kdet.workflows.compare.arms import arms_of, recipe_for
from kdet.workflows.compare.gain import Finished, arm_rows
from kdet.workflows.compare.run import compare, table
from kdet.workflows.compare.text import table as text_of
from kdet.workflows.compare.training_time import ap_by, ap_over_time

STEP = {"none": {"seconds": 0.5, "memory_bytes": 100}, "arm": {"seconds": 1.0, "memory_bytes": 150}}
"""A step of the arm takes twice as long."""


def of_seeds(aps: Sequence[float], steps: int) -> list[Finished]:
    """Runs that look twice, in the middle with half the AP."""
    return [finished(ap, looks=[(steps // 2, ap / 2), (steps, ap)]) for ap in aps]


def rows_of(runs: dict[str, list[Finished]], steps: Any = STEP) -> dict[str, dict[str, Any]]:
    times = {name: int(name[-1]) for name in runs if name.startswith("none-x")}
    return {row["name"]: row for row in arm_rows(runs, 0.5, steps, times=times, accumulate=2)}


RUNS = {
    "none": of_seeds((0.20, 0.22, 0.21), 100),
    "arm": of_seeds((0.25, 0.271, 0.26), 100),
    "none-x2": of_seeds((0.24, 0.25, 0.26), 200),
    "none-x4": of_seeds((0.30, 0.31, 0.32), 400),
}


def test_arms_come_behind_the_others_and_none_before_them(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    arms = arms_of(recipe, ["structural", "none"], [4, 2])
    assert [(arm.name, arm.times) for arm in arms] == [("none", 1), ("structural", 1), ("none-x2", 2), ("none-x4", 4)]
    assert not arms[2].terms


@pytest.mark.parametrize(
    ("longer", "word"), [([1], "1: expected whole"), ([0], "0: expected"), ([2, 2], "2: expected")]
)
def test_wrong_numbers_are_refused(tmp_path: Path, longer: list[int], word: str) -> None:
    with pytest.raises(InputError, match=f"--longer {word}"):
        arms_of(recipe_in(tmp_path), ["structural"], longer)


def test_an_arm_of_the_recipe_with_that_name_is_refused(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, arms={"none-x2": [{"method": "l2"}]})
    with pytest.raises(InputError, match="an arm 'none-x2' of its own"):
        arms_of(recipe, ["none-x2"], [2])


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("warmup", [0, 7, 500])
def test_the_learning_rate_is_stretched(tmp_path: Path, schedule: str, warmup: int) -> None:
    """At step 4·n it is that at step n; in the warm-up, which rises from the first step on, to within a step."""
    train = {"epochs": 30, "lr_schedule": schedule, "warmup_steps": warmup, "max_steps": 100, "evaluate_every": 2}
    recipe = recipe_in(tmp_path, train=train)
    arm = arms_of(recipe, ["structural"], [4])[-1]
    longer = recipe_for(recipe, arm, 3)
    assert longer.teacher is None and longer.train.seed == 3 and longer.student == recipe.student
    assert (longer.train.epochs, longer.train.max_steps, longer.train.evaluate_every) == (120, 400, 8)
    warm = min(warmup, 10)
    for step in range(100):
        short, stretched = learning_rate(recipe.train, step, 100), learning_rate(longer.train, 4 * step, 400)
        near = 1 / (warm + 1) if step < warm else 1e-9
        assert stretched == pytest.approx(short, rel=1e-9, abs=recipe.train.lr * near)


def test_without_an_end_in_steps_epochs_alone_grow(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    longer = recipe_for(recipe, arms_of(recipe, ["structural"], [2])[-1], 0).train
    assert longer.max_steps is None and longer.epochs == 4 and longer.evaluate_every == 0


def test_baselines_have_a_gain_and_no_part_in_holms_family() -> None:
    """With them in it, `arm` would have to be below 0.05 / 3."""
    rows = rows_of(RUNS)
    alone = rows_of({name: RUNS[name] for name in ("none", "arm")})
    assert rows["arm"]["holm"] == alone["arm"]["holm"] == "helped" and rows["arm"]["p"] == alone["arm"]["p"]
    assert rows["none-x4"]["gain"] == pytest.approx(0.1) and rows["none-x4"]["holm"] == "not shown"
    assert rows["none-x4"]["verdict"] == "helped" and rows["none-x4"]["times"] == 4
    noise = {f"noise{i}": of_seeds((0.2, 0.23, 0.2), 100) for i in range(2)}
    assert rows_of({**RUNS, **noise})["arm"]["holm"] == "helped"


def test_a_method_stands_beside_the_longest_in_no_more_time_and_beside_the_best() -> None:
    """100 steps of two batches at 1 s are 200 s; so are 200 at 0.5 s, and 400 are more."""
    rows = rows_of(RUNS)
    assert [rows[name]["time"] for name in RUNS] == [100, 200, 200, 400]
    against = rows["arm"]["against_longer"]
    same, best = against["same_time"], against["best"]
    assert (same["arm"], same["time"], best["arm"], best["time"]) == ("none-x2", 200, "none-x4", 400)
    gains = [0.25 - 0.24, 0.271 - 0.25, 0.26 - 0.26]
    assert same["gain"] == pytest.approx(sum(gains) / 3) and same["verdict"] == "not shown"
    low, high = stats.t.interval(0.95, 2, loc=sum(gains) / 3, scale=stats.sem(gains))
    assert same["interval"] == pytest.approx([low, high]) and same["p"] == pytest.approx(
        stats.ttest_1samp(gains, 0).pvalue
    )
    assert best["gain"] == pytest.approx(-0.149 / 3) and best["verdict"] == "hurt"
    assert all("against_longer" not in rows[name] for name in ("none", "none-x2", "none-x4"))


@pytest.mark.parametrize(("seconds", "other"), [(0.99, "none"), (1.0, "none-x2"), (1.99, "none-x2"), (2.0, "none-x4")])
def test_which_alone_costs_no_more(seconds: float, other: str) -> None:
    steps = {**STEP, "arm": {"seconds": seconds, "memory_bytes": 1}}
    assert rows_of(RUNS, steps)["arm"]["against_longer"]["same_time"]["arm"] == other


def test_where_no_step_was_measured_there_is_no_time_and_still_a_best() -> None:
    rows = rows_of(RUNS, {})
    assert rows["arm"]["time"] is None and rows["arm"]["against_longer"]["same_time"] is None
    assert rows["arm"]["against_longer"]["best"]["arm"] == "none-x4"
    assert ap_over_time(RUNS, list(rows.values()))["arm"]["mean"]["seconds"] is None


def test_without_longer_arms_nothing_is_added() -> None:
    assert "against_longer" not in rows_of({name: RUNS[name] for name in ("none", "arm")})["arm"]


def test_ap_stands_over_the_measured_time_of_its_steps() -> None:
    lines = ap_over_time(RUNS, list(rows_of(RUNS).values()))
    assert lines["arm"]["mean"] == {
        "step": [50, 100],
        "seconds": pytest.approx([100, 200]),
        "AP": pytest.approx([0.781 / 6, 0.781 / 3]),
    }
    assert lines["none-x2"]["seeds"][1] == {
        "step": [100, 200],
        "seconds": pytest.approx([100, 200]),
        "AP": [0.125, 0.25],
    }
    read = [ap_by(lines["arm"]["mean"], seconds) for seconds in (99, 100, 199, 200, 1000)]
    assert read == [None, *(pytest.approx(ap) for ap in (0.781 / 6, 0.781 / 6, 0.781 / 3, 0.781 / 3))]


def test_the_mean_is_over_looks_that_all_seeds_have() -> None:
    """One of them was given up earlier; each has its own time for its own steps."""
    short = finished(0.1, looks=[(50, 0.1)])
    runs = {"none": [short, *of_seeds((0.3,), 100)], "arm": of_seeds((0.3, 0.3), 100)}
    rows = rows_of(runs)
    line = ap_over_time(runs, list(rows.values()))["none"]
    assert rows["none"]["steps"] == [50, 100] and rows["none"]["time"] == 75  # 2 batches of 0.5 s a step
    assert line["mean"]["step"] == [50] and line["mean"]["AP"] == pytest.approx([0.125])
    assert line["seeds"][1]["seconds"] == pytest.approx([50, 100])


def test_the_terminal_answers_train_longer() -> None:
    rows = arm_rows(RUNS, 0.5, STEP, times={"none-x2": 2, "none-x4": 4}, accumulate=2)
    empty: dict[str, Any] = {"terms": {}}
    result = {"arms": [row | empty for row in rows], "teacher": {"AP": 0.5}, "seeds": [0, 1, 2]}
    result |= {"ap_over_time": ap_over_time(RUNS, rows), "warnings": [], "left_out": [], "notes": []}
    lines = text_of(result).splitlines()
    assert lines[3].split()[:2] == ["none-x2", "0.250"] and lines[3].endswith("3:20 min  helped (a baseline)")
    said = next(line for line in lines if line.startswith("arm against"))
    assert said == (
        "arm against the student alone: none-x2, the longest in no more time, +0.010 (-0.016 … +0.036), not shown; "
        "none-x4, the best of the longer ones, -0.050 (-0.076 … -0.024), hurt"
    )
    place = next(i for i, line in enumerate(lines) if line.startswith("AP by training time"))
    shown = [line.split() for line in lines[place : place + 5]]
    assert shown[0][4:] == ["0:25", "min", "0:50", "min", "1:40", "min", "3:20", "min", "6:40", "min"]
    assert shown[1] == ["none", "–", "0.105", "0.210", "0.210", "0.210"]
    assert shown[2] == ["arm", "–", "–", "0.130", "0.260", "0.260"]
    assert shown[4] == ["none-x4", "–", "–", "–", "0.155", "0.310"]


@pytest.mark.long
def test_a_comparison_takes_longer_arms_on_and_keeps_all_that_is_there(tmp_path: Path) -> None:
    """With patience: a student that does not move is given up at its second look."""
    train = {"epochs": 2, "seed": 5, "evaluate_every": 1, "optimizer": "sgd", "lr": 1e-30, "patience": 1}
    recipe = recipe_in(tmp_path, arms=PLACEBO, train=train)
    out = tmp_path / "out"
    with Here() as pool:
        compare(recipe, ["placebo"], num_seeds=1, out=out, pool=pool)
        before = (out / STEPS).read_bytes()
        result = compare(recipe, ["placebo"], num_seeds=1, out=out, pool=pool, longer=[2])
    assert pool.asked[3:] == [out / "none-x2" / "seed-5"] and (out / STEPS).read_bytes() == before
    none, placebo, longer = result["arms"]
    assert (none["steps"], placebo["steps"], longer["steps"]) == ([4], [4], [8]) and longer["time"] == 2 * none["time"]
    assert longer["cost"] == none["cost"] and longer["terms"] == {}
    assert placebo["against_longer"]["best"]["arm"] == "none-x2"
    assert result["ap_over_time"]["none-x2"]["seeds"][0]["step"] == [4, 8]
    assert json.loads((out / "compare.json").read_text()) == result
    page = (out / "index.html").read_text()
    assert "Against training longer" in page and "AP against training time" in page and "none-x2" in table(result)
    assert any(note.endswith("stopped early, by step: none") for note in result["notes"])


def test_a_run_given_up_is_recorded_by_arm(tmp_path: Path) -> None:
    train = {"epochs": 4, "evaluate_every": 1, "optimizer": "sgd", "lr": 1e-30, "patience": 1}
    recipe = recipe_in(tmp_path, arms=PLACEBO, train=train)
    with Here() as pool:
        result = compare(recipe, ["placebo"], num_seeds=1, out=tmp_path / "out", pool=pool)
    assert [row["steps"] for row in result["arms"]] == [[4], [4]]
    assert result["runs"]["none"][0]["stopped_early"].startswith("stopped early at step 4 of 8")
    assert any(note.endswith("stopped early, by step: none at 4; placebo at 4") for note in result["notes"])
    assert "stopped early" in (tmp_path / "out" / "index.html").read_text()
