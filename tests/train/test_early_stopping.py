"""`patience`: when a run has had enough, what it says of it, and that nothing else changes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_resume import assert_bit_for_bit, killed
from train_cases import recipe_of, records, run

from fakes import tiny_recipe, write_yaml
from kdet.errors import InputError
from kdet.train import Recipe, read_recipe
from kdet.train.scoring import Scorer

SEEN = (0.1, 0.2, 0.15, 0.3, 0.25, 0.28, 0.9, 0.9)


def patient(patience: int | None = 2, **train: Any) -> Recipe:
    """Eight epochs of two steps, with a look after each."""
    return recipe_of(train={"epochs": 8, "evaluate_every": 1, "patience": patience, **train})


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student whose AP after each epoch is known."""
    real, looked = Scorer._score, dict[Path, dict[str, Any]]()

    def score(self: Scorer, detector: Any, doing: str, *more: Any) -> dict[str, Any]:
        if self.folder not in looked:  # once a run is enough where AP is known
            looked[self.folder] = real(self, detector, doing, *more)
        return looked[self.folder] | {"AP": SEEN[int(doing.removeprefix("evaluating epoch ")) - 1]}

    monkeypatch.setattr(Scorer, "_score", score)


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def weights(folder: Path, file: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{file}.safetensors")


@pytest.mark.usefixtures("scripted")
def test_it_stops_after_so_many_looks_without_a_new_best(tmp_path: Path) -> None:
    """0.15 is one miss, which 0.3 forgives; 0.25 and 0.28 are two."""
    outcome = run(patient(), tmp_path / "run")
    reason = (
        "stopped early at step 12 of 16: 2 looks at AP in a row without a new best (patience 2); the best was 0.300 at "
        "step 8"
    )
    assert (outcome.steps, outcome.best_epoch, outcome.stopped_early) == (12, 4, reason)
    found = metrics(tmp_path / "run")
    assert found["best"] == {"epoch": 4, "step": 8, "AP": 0.3, "weights": "student.safetensors"}
    assert found["last"] == {"epoch": 6, "step": 12, "AP": 0.28, "weights": "student-last.safetensors"}
    assert (found["AP"], found["epoch"], found["total_steps"], found["stopped_early"]) == (0.28, 6, 16, reason)
    assert [record["text"] for record in records(tmp_path / "run", "note")].count(f"run: {reason}") == 1
    assert [record["epoch"] for record in records(tmp_path / "run", "eval")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.long
@pytest.mark.usefixtures("scripted")
def test_the_weights_are_those_of_the_steps_that_the_metrics_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(patient(), tmp_path / "run")
    killed(patient(None), tmp_path / "eight", monkeypatch, 8)
    killed(patient(None), tmp_path / "twelve", monkeypatch, 12)
    for file, other in (("student", "eight"), ("student-last", "twelve")):
        own, theirs = weights(tmp_path / "run", file), weights(tmp_path / other, "student-last")
        assert own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own)


@pytest.mark.usefixtures("scripted")
def test_the_learning_rate_falls_as_in_the_whole_run(tmp_path: Path) -> None:
    run(patient(), tmp_path / "short")
    run(patient(None), tmp_path / "whole")
    short, whole = ([record["lr"] for record in records(tmp_path / name, "step")] for name in ("short", "whole"))
    assert len(short) == 12 and len(whole) == 16 and short == whole[:12]
    assert metrics(tmp_path / "whole")["stopped_early"] is None


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(
    "after_steps", [pytest.param(5, marks=pytest.mark.long), 10, pytest.param(11, marks=pytest.mark.long)]
)
def test_resume_counts_on_where_the_run_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_steps: int
) -> None:
    """After the first miss of a row, within an epoch, and before the look that ends it."""
    run(patient(), tmp_path / "whole")
    killed(patient(), tmp_path / "halves", monkeypatch, after_steps)
    assert run(patient(), tmp_path / "halves", resume=True).steps == 12
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "halves")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")


@pytest.mark.usefixtures("scripted")
def test_a_run_that_stopped_resumes_to_itself_and_with_more_patience_goes_on(tmp_path: Path) -> None:
    run(patient(), tmp_path / "run")
    before = metrics(tmp_path / "run")
    assert run(patient(), tmp_path / "run", resume=True).steps == 12 and metrics(tmp_path / "run") == before
    assert run(patient(3), tmp_path / "run", resume=True).stopped_early is None
    run(patient(None), tmp_path / "whole")
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "run")


def test_a_student_that_does_not_move_is_given_up(tmp_path: Path) -> None:
    """By its real AP: the first look is the best, whatever it is."""
    outcome = run(patient(3, optimizer="sgd", lr=1e-30), tmp_path / "run")
    assert outcome.best_epoch == 1 and outcome.steps == 8


@pytest.mark.usefixtures("scripted")
def test_what_ends_with_its_last_step_did_not_stop_early(tmp_path: Path) -> None:
    """Even where that look used up the patience."""
    outcome = run(patient(1, epochs=3), tmp_path / "run")
    assert outcome.steps == 6 and outcome.stopped_early is None


def test_patience_without_looks_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "r.yaml", tiny_recipe(train={"patience": 3}))
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert str(caught.value).endswith(
        "train: patience counts looks at AP, and `evaluate_every: 0` takes none; set it to 1, or leave one out"
    )
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="greater than or equal to 1"):
        read_recipe(path, ["train.patience=0"])
