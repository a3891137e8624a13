"""`kdet check --trial`: paired students of a few steps, what is said of each, and that nothing stays."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from check_cases import recipe_of, save, warned
from compare_cases import teacher_of
from safetensors.torch import load_file
from scipy import stats

from fakes import state_of
from kdet.errors import InputError
from kdet.train import Recipe, fit
from kdet.train.data import open_data
from kdet.workflows.check import trial_run
from kdet.workflows.check.report import Report
from kdet.workflows.check.run import check
from kdet.workflows.check.text import as_text
from kdet.workflows.check.trial import TooShort, harm, try_terms, variants_of
from kdet.workflows.check.trial_run import Outcome, outcome_of

STEP = {"seconds": 0.2, "alone_seconds": 0.1, "load_seconds": 0.05}
FAR_OFF = {"method": "l2", "weight": 1e7}
NOTHING = {"method": "structural", "weight": 0.0, "placebo": True, "name": "nothing"}


def recipe(folder: Path, *terms: dict[str, Any], **sections: Any) -> Recipe:
    """Ten training images of which four are held out; four steps are a run."""
    sections = {"data": {"images": 10, "hold_out": 0.4}, **sections}
    return recipe_of(folder, *(terms or ({"method": "structural"}, FAR_OFF)), **sections)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict[str, Any]]:
    """A trial of a sound term, one that drowns the task, and a placebo, which is left out."""
    own = recipe(tmp_path_factory.mktemp("trial"), {"method": "structural"}, FAR_OFF, NOTHING, train={"batch_size": 2})
    return own, try_terms(own, 3600.0, STEP)


def test_each_term_has_a_student_beside_the_one_without(made: tuple[Recipe, dict[str, Any]]) -> None:
    _, trial = made
    assert [one["name"] for one in trial["students"]] == ["without", "structural", "l2", "all together"]
    counts = ("steps", "of_steps", "training_images", "held_out_images")
    assert [trial[key] for key in counts] == [6, 6, 6, 4]  # of 3600 s no more than a run of 2 epochs is taken
    without = trial["students"][0]
    assert (without["difference"], without["interval"], without["way"]) == (None, None, None)
    json.dumps(trial, allow_nan=False)


def test_numbers_are_those_of_students_trained_alone(made: tuple[Recipe, dict[str, Any]]) -> None:
    """By hand: the same students once more, and Student's interval of the differences over the two batches."""
    own, trial = made
    alone, l2 = (outcome_of(variants_of(own)[name], name, steps=6, rows=[0, 1, 2, 3]) for name in ("without", "l2"))
    assert len(alone.losses) == 2 and trial["students"][0]["loss"] == fmean(alone.losses)
    differences = [one - other for one, other in zip(l2.losses, alone.losses, strict=True)]
    found = trial["students"][2]
    low, high = stats.t.interval(0.95, 1, loc=fmean(differences), scale=stats.sem(differences))
    assert found["difference"] == pytest.approx(fmean(differences))
    assert found["interval"] == pytest.approx([low, high], rel=1e-6)


def test_a_placebo_ends_where_the_student_alone_does(tmp_path: Path) -> None:
    """The same start, batches and random numbers, to the last bit."""
    own = recipe(tmp_path, {"method": "structural"})
    placebo = own.model_copy(update={"distill": [own.distill[0].model_copy(update={"weight": 0.0, "placebo": True})]})
    losses = [outcome_of(of, "x", steps=3, rows=[0, 1, 2, 3]).losses for of in (variants_of(own)["without"], placebo)]
    assert losses[0] == losses[1]
    assert outcome_of(variants_of(own)["structural"], "x", steps=3, rows=[0, 1, 2, 3]).losses != losses[0]


def test_a_student_is_trained_as_a_run_trains_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are those that `fit` leaves for the same recipe."""
    own = variants_of(recipe(tmp_path, {"method": "structural"}, train={"ema": 0.9, "accumulate": 2}))["structural"]
    seen: list[dict[str, torch.Tensor]] = []
    real = trial_run.score

    def score(student: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        seen.append(state_of(student.model))
        return real(student, *arguments, **options)

    monkeypatch.setattr(trial_run, "score", score)
    outcome_of(own, "x", steps=99, rows=[0, 1, 2, 3])
    fit(own, tmp_path / "run")
    theirs = load_file(tmp_path / "run" / "student-last.safetensors")
    assert len(theirs) > 20 and all(torch.equal(seen[0][name], tensor) for name, tensor in theirs.items())


def test_the_held_out_images_are_not_trained_on_and_validation_is_not_looked_at(tmp_path: Path) -> None:
    own = recipe(tmp_path, data={"images": 10})
    for variant in variants_of(own).values():
        splits = open_data(variant)
        assert (len(splits.train.index), len(splits.val.index)) == (8, 2)  # a fifth, as nothing else is asked for
        assert not set(splits.train.index.image_ids.tolist()) & set(splits.val.index.image_ids.tolist())


def test_all_start_from_what_the_recipe_inherits_whichever_teacher_has_the_term(tmp_path: Path) -> None:
    teachers = [
        {"run": str(teacher_of(tmp_path / "a", width=0.25, fpn_channels=32)), "distill": [{"method": "structural"}]},
        {"run": str(teacher_of(tmp_path / "b")), "name": "b", "distill": [{"method": "l2"}]},
    ]
    own = recipe(tmp_path, teacher=teachers, student={"inherit": "neck"})
    variants = variants_of(own)
    assert list(variants) == ["without", "t1/structural", "b/l2", "all together"]
    assert {variant.student.inherit for variant in variants.values()} == {"neck"}
    assert {str(variant.teachers[0].run) for variant in variants.values()} == {teachers[0]["run"]}
    first, second = variants["b/l2"].teachers
    assert first.distill[0].placebo and second.distill[0].method == "l2"


def test_unlabelled_images_are_left_out(tmp_path: Path) -> None:
    own = recipe(tmp_path, data={"images": 10, "labels": 0.5, "unlabelled": {"images": "rest"}})
    assert all(variant.data.unlabelled is None for variant in variants_of(own).values())


def test_too_little_time_says_how_much_is_needed(tmp_path: Path) -> None:
    """12 steps of 0.1 + 0.05 s alone and three times of 0.2 + 0.05 s are 10.8 s, which 0.7 of the time must hold."""
    with pytest.raises(TooShort, match=r"12 steps of 4 students take 11 s here, .* give --trial 15s or more"):
        try_terms(recipe(tmp_path), 15.0, STEP)


@pytest.mark.parametrize("terms", [[], [NOTHING]])
def test_nothing_to_try_is_refused(tmp_path: Path, terms: list[dict[str, Any]]) -> None:
    own = recipe(tmp_path).model_copy(update={"distill": []})
    own = Recipe.model_validate(own.model_dump() | {"distill": terms})
    with pytest.raises(InputError, match="--trial: the recipe has no terms to try"):
        check(own, trial="1m")


def student(
    name: str, loss: float, way: str | None, ap: float | None, difference: float | None = None
) -> dict[str, Any]:
    return {"name": name, "loss": loss, "difference": difference, "interval": None, "way": way, "AP": ap}


@pytest.mark.parametrize(
    ("loss", "way", "aps", "harmful"),
    [
        (2.3, "worse", (None, None), True),
        (2.1, "worse", (None, None), False),  # clear, and small
        (2.3, "no clear difference", (None, None), False),
        (2.3, "worse", (0.5, 0.5), False),  # AP decides where it is known
        (1.9, "better", (0.5, 0.39), True),
        (1.9, "better", (0.5, 0.41), False),
    ],
)
def test_clear_harm_is_a_warning(loss: float, way: str, aps: tuple[Any, Any], harmful: bool) -> None:
    trial = {
        "steps": 40,
        "students": [student("without", 2.0, None, aps[0]), student("l2", loss, way, aps[1], loss - 2)],
    }
    problems = list(harm(trial))
    assert [problem.status for problem in problems] == ["warning"] * harmful
    if harmful:
        assert problems[0].check == "trial" and problems[0].text.startswith("l2: after 40 steps ")


def test_a_trial_stands_in_the_report_and_strict_refuses_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judged by AP that is made up: the student that learns from l2 has lost half."""

    def outcome(own: Recipe, name: str, *, steps: int, rows: Any) -> Outcome:
        ap = 0.2 if own.distill == [] and own.teachers and own.teachers[0].distill[0].method == "l2" else 0.4
        return Outcome(losses=[1.0, 2.0 + ap], ap=ap, steps=steps, of_steps=900, images=6)

    monkeypatch.setattr("kdet.workflows.check.trial.outcome_of", outcome)
    before = sorted(tmp_path.rglob("*"))
    path = save(tmp_path)
    report: Report = check(recipe(tmp_path, {"method": "structural"}, {"method": "l2"}), trial="10m")
    assert sorted(tmp_path.rglob("*")) == [*before, path]
    assert report.passed() and any("l2: after" in text and "AP 0.200 against 0.400" in text for text in warned(report))
    text = as_text(report)
    assert "trial    warning" in text and "a hint of few steps and one start, no verdict" in text
    assert json.loads(json.dumps(report.as_json()))["trial"]["of_steps"] == 900
    assert "trial: structural" in capsys.readouterr().err


def test_a_check_without_enough_time_still_says_what_it_found(tmp_path: Path) -> None:
    report = check(recipe(tmp_path), trial="0.001s")
    assert report.trial is None and report.step is not None
    assert any("nothing was tried; give --trial" in text for text in warned(report))
    with pytest.raises(InputError, match="--trial soon: expected a time"):
        check(recipe(tmp_path), trial="soon")
