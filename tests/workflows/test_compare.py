"""A real comparison of a few steps: paired, continued run by run, within its budget, written down."""

import json
import re
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_cases import PLACEBO, Here, recipe_in

from kdet.errors import InputError, WorkError
from kdet.train import Recipe
from kdet.workflows.compare.arm_costs import STEPS
from kdet.workflows.compare.arms import arms_of
from kdet.workflows.compare.rounds import COST, plan, run_rounds, train_one
from kdet.workflows.compare.run import compare, table
from kdet.workflows.compare.text import power

NAMES = ["structural", "placebo"]


def records(folder: Path) -> list[dict[str, Any]]:
    """The steps of a run's log."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "step"]


def task_losses(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in step["parts"].items() if k.startswith("task/")} for step in records(folder)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, dict[str, Any]]:
    """Recipe, folder and result of none, structural and a placebo on two seeds."""
    folder = tmp_path_factory.mktemp("compare")
    recipe = recipe_in(folder, arms=PLACEBO, train={"epochs": 1, "seed": 5})
    with Here() as pool:
        result = compare(recipe, NAMES, num_seeds=2, out=folder / "out", pool=pool)
    assert len(pool.asked) == 7 and pool.asked[0] == folder / "out" / STEPS  # a step of each arm, then the runs
    return recipe, folder / "out", result


def test_every_arm_runs_on_every_seed(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    _, out, result = made
    assert [arm["name"] for arm in result["arms"]] == ["none", *NAMES] and result["seeds"] == [5, 6]
    for arm in result["arms"]:
        metrics = [json.loads((out / arm["name"] / f"seed-{seed}" / "metrics.json").read_text()) for seed in (5, 6)]
        assert arm["AP"] == [one["AP"] for one in metrics]
    teacher = json.loads((out / "structural" / "seed-5" / "teacher.json").read_text())
    assert result["teacher"] == teacher and not (out / "none" / "seed-5" / "teacher.json").exists()


def test_arms_of_a_seed_are_paired(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    _, out, _ = made
    none, placebo, structural = (task_losses(out / name / "seed-5") for name in ("none", "placebo", "structural"))
    assert none == placebo  # the same images, order, augmentation and weights, to the last bit, in every step
    assert none[0] == structural[0] and none[1] != structural[1]
    assert none[0] != task_losses(out / "none" / "seed-6")[0]


def test_a_placebo_is_not_shown_to_help(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    _, _, result = made
    placebo = result["arms"][2]
    assert placebo["gain"] == 0 and placebo["verdict"] == "not shown" and placebo["image_interval"] == [0.0, 0.0]
    assert any("placebo" in note for note in result["notes"])


def test_cost_is_measured_in_turns_before_the_runs_and_written_down(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    _, out, result = made
    steps = json.loads((out / STEPS).read_text())
    assert result["steps"] == steps and list(steps["arms"]) == ["none", *NAMES]
    assert steps["batch_size"] == 4 and steps["threads"] > 0
    none, structural, placebo = result["arms"]
    assert none["cost"]["time"] == none["cost"]["memory"] == 1
    for arm in (structural, placebo):  # the teacher's weights and the terms' activations
        assert arm["cost"]["memory"] > 1.2 and arm["cost"]["step_seconds"] > 0
    assert structural["cost"]["memory"] == pytest.approx(placebo["cost"]["memory"], rel=1e-3)
    assert all(arm["training_seconds"] > 0 for arm in result["arms"])


def test_terms_have_their_weights_and_pulls(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    _, out, result = made
    none, structural, placebo = (arm["terms"] for arm in result["arms"])
    assert none == {} and placebo["structural"]["placebo"] and placebo["structural"]["weight"] == 0
    logged = [
        step["gradients"]["structural"]["ratio"]
        for s in (5, 6)
        for step in records(out / "structural" / f"seed-{s}")
        if "gradients" in step
    ]
    assert structural["structural"]["pull"] == pytest.approx(np.median(logged)) and len(logged) >= 2
    assert "structural, weight" in table(result) and f"pull {structural['structural']['pull']:.3g}" in table(result)


def test_what_these_seeds_can_show_is_said_before_the_first_run(
    made: tuple[Recipe, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out, result = made
    shutil.copytree(out, tmp_path / "out")
    with Here() as pool:
        compare(recipe, NAMES, num_seeds=2, out=tmp_path / "out", pool=pool)
    first = capsys.readouterr().err.splitlines()[0]
    # t(1, 97.5 %) = 12.706 and t(1, 98.75 %) = 25.452 over √2; t(4, 97.5 %) = 2.776 over √5
    assert first == (
        "2 seeds: a gain must exceed 9 times the spread (s) of the paired differences to be shown, 18 times as the "
        "first of 2 arms after Holm; 5 seeds would do with 1.2"
    )
    assert first in result["notes"]
    assert pool.asked == []  # and nothing is measured again


def test_everything_is_written_down(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    _, out, result = made
    assert json.loads((out / "compare.json").read_text()) == result
    page = (out / "index.html").read_text()
    assert all(arm["name"] in page for arm in result["arms"]) and "By kind of error" in page
    assert set(result["breakdown"]["errors"]) >= {"classification", "localisation", "missed"}
    assert all(name in table(result) for name in ("none", *NAMES))


def test_a_lost_run_is_finished_and_the_others_are_left_alone(
    made: tuple[Recipe, Path, dict[str, Any]], tmp_path: Path
) -> None:
    recipe, out, result = made
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    (copy / "placebo" / "seed-6" / "metrics.json").unlink()  # its saved state is there: only evaluation is left
    shutil.rmtree(copy / "structural" / "seed-5" / "last")  # killed before anything was saved
    (copy / "structural" / "seed-5" / COST).unlink()
    with Here() as pool:
        again = compare(recipe, NAMES, num_seeds=2, out=copy, pool=pool)
    assert pool.asked == [copy / "structural" / "seed-5", copy / "placebo" / "seed-6"]
    assert [arm["AP"] for arm in again["arms"]] == [arm["AP"] for arm in result["arms"]]
    assert task_losses(copy / "structural" / "seed-5") == task_losses(out / "structural" / "seed-5")


def test_another_recipe_in_the_folder_is_refused(made: tuple[Recipe, Path, dict[str, Any]]) -> None:
    recipe, out, _ = made
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"lr": 0.5})})
    with (
        Here() as pool,
        pytest.raises(InputError, match=r"none/seed-5: holds .* \(train.lr: 0.5 here, 0.001 there\)"),
    ):
        compare(other, NAMES, num_seeds=2, out=out, pool=pool)
    assert pool.asked == []


def test_what_the_budget_left_out_is_said(made: tuple[Recipe, Path, dict[str, Any]], tmp_path: Path) -> None:
    recipe, out, _ = made
    shutil.copytree(out, tmp_path / "out")
    with Here() as pool:
        result = compare(recipe, NAMES, num_seeds=4, out=tmp_path / "out", budget="0.1s", pool=pool)
    assert pool.asked == [] and result["seeds"] == [5, 6]  # what was there is used; a third round would not fit
    assert result["left_out"] == [
        "not run within the budget of 0.1s: seeds 7, 8 of none, structural, placebo; "
        "the same command without it goes on"
    ]
    assert result["left_out"][0][1:] in (tmp_path / "out" / "index.html").read_text()
    assert result["left_out"][0] in table(result)


def test_a_teacher_that_changed_meanwhile_is_noticed(made: tuple[Recipe, Path, dict[str, Any]], tmp_path: Path) -> None:
    recipe, out, result = made
    shutil.copytree(out, tmp_path / "out")
    changed = result["teacher"] | {"AP": 0.9}
    (tmp_path / "out" / "structural" / "seed-6" / "teacher.json").write_text(json.dumps(changed))
    with Here() as pool:
        again = compare(recipe, NAMES, num_seeds=2, out=tmp_path / "out", pool=pool)
    assert "do not trust this comparison" in again["notes"][0]


class Clerk:
    """Marks a run as finished without making it, each as long as it is told."""

    def __init__(self, wall_seconds: float) -> None:
        self.wall_seconds = wall_seconds
        self.asked: list[Path] = []

    def __len__(self) -> int:
        return 1

    def submit(self, job: Any, recipe: Recipe, folder: Path, /) -> Future[None]:
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text('{"AP": 0.25}')
        (folder / COST).write_text(json.dumps({"wall_seconds": self.wall_seconds}))
        self.asked.append(folder)
        done: Future[None] = Future()
        done.set_result(None)
        return done


@pytest.mark.parametrize(("budget", "complete"), [(None, 4), (1e6, 4), (199.0, 1)])
def test_rounds_begin_while_the_longest_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: float | None, complete: int
) -> None:
    recipe = recipe_in(tmp_path)
    rounds = plan(recipe, arms_of(recipe, ["structural"]), 4, tmp_path / "out")
    clerk = Clerk(100.0)
    assert run_rounds(rounds, clerk, budget=budget) == complete
    seeds = [folder.name for folder in clerk.asked]
    assert seeds == [f"seed-{seed}" for seed in range(complete) for _ in range(2)]  # all arms of a seed, then the next
    assert capsys.readouterr().err.count("structural, seed 0: AP 0.250") == 1


def test_a_run_that_fails_is_named_after_its_round_is_done(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, train={"epochs": 1, "lr": 1e30, "optimizer": "sgd"})
    rounds = plan(recipe, arms_of(recipe, ["structural"]), 1, tmp_path / "out")
    with Here() as pool, pytest.raises(WorkError, match="none, seed 0: "):
        run_rounds(rounds, pool)
    assert len(pool.asked) == 2


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        train_one(recipe_in(tmp_path).alone(), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").exists()


@pytest.mark.parametrize(
    ("seeds", "arms", "line"),
    [
        (1, 1, "1 seed: no gain can be shown, however large; 3 seeds would do with 2.5"),
        (3, 1, "3 seeds: a gain must exceed 2.5 times .* to be shown; 5 seeds would do with 1.2"),
        (3, 4, "3 seeds: .* 2.5 times .* shown, 5.1 times as the first of 4 arms after Holm; 5 seeds"),
        (5, 1, "5 seeds: a gain must exceed 1.2 times .*; 10 seeds would do with 0.72"),
        (10, 1, "10 seeds: a gain must exceed 0.72 times .* to be shown"),
    ],
)
def test_more_seeds_can_show_less(seeds: int, arms: int, line: str) -> None:
    assert re.fullmatch(f"{line}.*" if "Holm" in line else line, power(seeds, arms))
