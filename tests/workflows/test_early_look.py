"""A distilled run that falls behind the student alone early on says so, in its log and on the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from compare_cases import Here, recipe_in

from fakes import tiny_recipe
from kdet.train import Recipe, fit
from kdet.train.scoring import Scorer
from kdet.workflows.compare.early_look import fell_behind
from kdet.workflows.compare.run import compare

TOTAL = 48


def run_of(folder: Path, aps: Sequence[float], *, total: int | None = TOTAL) -> Path:
    """A run with a look every four steps, an epoch each."""
    folder.mkdir(parents=True)
    records = [{"kind": "eval", "step": 4 * n, "epoch": n, "metrics": {"AP": ap}} for n, ap in enumerate(aps, start=1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "metrics.json").write_text(json.dumps({"AP": aps[-1] if aps else 0} | {"total_steps": total}))
    return folder


@pytest.fixture
def alone(tmp_path: Path) -> list[Path]:
    """Three seeds; at epoch 3, a quarter of 12, 0.30, 0.32 and 0.34: s is 0.02."""
    return [run_of(tmp_path / str(i), [0.1, 0.2, 0.30 + i / 50, 0.4]) for i in range(3)]


@pytest.mark.parametrize(
    ("aps", "behind"),
    [
        ([0.1, 0.2, 0.279], True),
        ([0.1, 0.2, 0.281], False),  # within the spread
        ([0.1, 0.2, 0.4], False),
        ([0.0, 0.0, 0.3], False),  # looks before the judged one do not count,
        ([0.1, 0.2, 0.3, 0.0, 0.0], False),  # nor do later ones
        ([0.0, 0.0], False),  # the judged one is still to come
        ([], False),
    ],
)
def test_the_last_look_of_the_first_quarter_is_judged(
    tmp_path: Path, alone: list[Path], aps: list[float], behind: bool
) -> None:
    line = fell_behind(run_of(tmp_path / "run", aps), alone)
    assert (line is not None) == behind
    if line:
        assert line.startswith(
            "AP 0.279 at epoch 3 lies 0.021 below the student alone with the same seed (0.300), more than its spread "
            "over 3 seeds (0.020); "
        )


def test_one_seed_is_plainly_named_as_one(tmp_path: Path, alone: list[Path]) -> None:
    run = run_of(tmp_path / "run", [0.1, 0.2, 0.29])
    assert "(0.300), by this one seed; " in (fell_behind(run, alone[:1]) or "")
    assert fell_behind(run, alone) is None


def test_a_student_alone_that_is_not_so_far_says_nothing_yet(tmp_path: Path, alone: list[Path]) -> None:
    run = run_of(tmp_path / "run", [0.1, 0.2, 0.1])
    later = run_of(tmp_path / "later", [0.1, 0.2])
    assert fell_behind(run, [later, *alone]) is None and fell_behind(run, [tmp_path / "nowhere"]) is None
    assert "by this one seed" in (fell_behind(run, [alone[0], later]) or "")


def test_where_no_look_is_so_early_the_first_is_judged_unless_it_is_the_result(
    tmp_path: Path, alone: list[Path]
) -> None:
    assert "at epoch 1" in (fell_behind(run_of(tmp_path / "a", [0.05], total=8), alone[:1]) or "")
    assert fell_behind(run_of(tmp_path / "b", [0.05], total=4), alone[:1]) is None
    assert fell_behind(run_of(tmp_path / "c", [0.05], total=None), alone[:1]) is None  # of an earlier kdet


def test_a_run_asks_after_each_look_until_there_is_something_to_say(tmp_path: Path) -> None:
    answers = [None, "it is late", "never heard"]
    asked: list[float] = []

    def watch() -> str | None:
        asked.append(json.loads((tmp_path / "run" / "metrics.json").read_text())["last"]["epoch"])
        return answers[len(asked) - 1]

    recipe = Recipe.model_validate(tiny_recipe(train={"epochs": 3, "evaluate_every": 1}))
    fit(recipe, tmp_path / "run", watch=watch)
    assert asked == [1, 2]  # what it asks sees the look
    assert (tmp_path / "run" / "log.jsonl").read_text().count("run: warning: it is late") == 1


def test_a_comparison_says_it_in_the_log_and_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student under a teacher that is scored 0.25 lower."""
    real = Scorer.student

    def student(self: Scorer, detector: Any, *, step: int, epoch: int) -> dict[str, Any]:
        ap = 0.5 - 0.25 * bool(self.teachers)
        metrics = real(self, detector, step=step, epoch=epoch) | {"AP": ap}
        self.log.evaluation(step=step, epoch=epoch, metrics=metrics)
        return metrics

    monkeypatch.setattr(Scorer, "student", student)
    recipe = recipe_in(tmp_path, train={"epochs": 2, "evaluate_every": 1})
    with Here() as pool:
        result = compare(recipe, ["structural"], num_seeds=1, out=tmp_path / "out", pool=pool)
    line = "AP 0.250 at epoch 1 lies 0.250 below the student alone with the same seed (0.500), by this one seed; "
    log = (tmp_path / "out" / "structural" / "seed-0" / "log.jsonl").read_text()
    assert log.count(f"seed-0: warning: {line}") == 1
    found = [warning for warning in result["warnings"] if warning.startswith(f"structural, seed 0: {line}")]
    assert len(found) == 1 and found[0][1:] in (tmp_path / "out" / "index.html").read_text()
