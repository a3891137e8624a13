"""A search of a few seconds: short runs, halving, a recipe and its evidence."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakes import tiny_recipe
from kdet.data import Shapes, ShapesSource, convert
from kdet.errors import InputError
from kdet.train import Recipe, open_data, read_recipe, write_recipe
from kdet.workflows.search import bench
from kdet.workflows.search.bench import Bench, Trial
from kdet.workflows.search.run import search, table
from kdet.workflows.seen import flattered, seen_in_training
from train.train_cases import teacher_file


def recipe_in(folder: Path, **sections: Any) -> Recipe:
    """Nine steps at full length; one of twelve images is held out."""
    data = {"images": 12, "hold_out": 0.1}
    train = {"epochs": 5, "batch_size": 4}
    teacher = {"run": str(teacher_file(folder))}
    return Recipe.model_validate(tiny_recipe(data=data, train=train, teacher=teacher, **sections))


@pytest.fixture(scope="module", autouse=True)
def clock() -> Iterator[None]:
    """Half a second for each step that any search of this file made, however fast the machine is."""
    made = 0.0

    def train_one(recipe: Recipe, folder: Path) -> None:
        nonlocal made
        original(recipe, folder)
        made += cost_of(folder)["wall_seconds"]

    def cost_of(folder: Path) -> dict[str, Any]:
        return {"wall_seconds": 0.5 * int(folder.name.rpartition("-")[2])}

    original = bench.train_one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "train_one", train_one)
        patch.setattr(bench, "cost_of", cost_of)
        patch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: made))
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("search")
    recipe = recipe_in(folder, distill=[{"method": "structural", "window": 7, "weight": 3.0}])
    return folder, search(recipe, budget="6s", out=folder / "out", methods=("l2", "structural"))


def test_it_ends_with_a_recipe_that_distils_and_the_evidence(searched):
    folder, result = searched
    best = read_recipe(folder / "out" / "recipe.yaml")
    assert [term.method for term in best.distill] == result["best"]["methods"].split("+")
    assert best.distill[0].weight == "auto" and best.distill[0].ratio == result["best"]["ratio"]
    assert best.data.hold_out == 0.1 and best.train.epochs == 5
    assert json.loads((folder / "out" / "search.json").read_text(encoding="utf-8")) == result
    assert "a choice and no proof" in result["says"]


def test_every_candidate_and_the_student_alone_had_a_short_run(searched):
    _, result = searched
    shortest = min(row["steps"] for row in result["runs"])
    assert {"none", "l2", "structural"} <= {row["methods"] for row in result["runs"] if row["steps"] == shortest}


def test_the_best_is_compared_with_the_student_alone_for_as_long(searched):
    _, result = searched
    alone = [r for r in result["runs"] if r["methods"] == "none" and r["steps"] == result["best"]["steps"]]
    assert [row["AP"] for row in alone] == [result["alone"]]
    assert result["best"]["gain"] == pytest.approx(result["best"]["AP"] - result["alone"])
    longest = max(row["steps"] for row in result["runs"])
    assert result["best"]["steps"] == longest
    assert result["best"]["AP"] == max(
        row["AP"] for row in result["runs"] if row["steps"] == longest and row["methods"] != "none"
    )


def test_the_same_call_goes_on_with_what_is_there(searched):
    folder, result = searched
    made = {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*/metrics.json")}
    recipe = recipe_in(folder, distill=[{"method": "structural", "window": 7, "weight": 3.0}])
    again = search(recipe, budget="1s", out=folder / "out", methods=("l2", "structural"))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert again["runs"][0] == result["runs"][0]


def test_another_recipe_in_the_folder_is_refused(searched):
    folder, _ = searched
    other = recipe_in(folder, student={"width": 0.5})
    with pytest.raises(InputError, match=r"holds a run of another recipe"):
        search(other, budget="1s", out=folder / "out", methods=("l2",))


def test_a_candidate_that_the_detectors_cannot_serve_is_left_out_and_said(tmp_path):
    recipe = recipe_in(tmp_path)
    result = search(recipe, budget="1s", out=tmp_path / "out", methods=("ld", "l2"))
    assert "edge distributions" in result["left_out"]["ld"]
    with pytest.raises(InputError, match=r"none of the candidates fits"):
        search(recipe, budget="1s", out=tmp_path / "other", methods=("ld",))


def test_wrong_input_is_named(tmp_path):
    recipe = recipe_in(tmp_path)
    with pytest.raises(InputError, match=r"unknown method 'structrual'; did you mean 'structural'"):
        search(recipe, budget="1s", out=tmp_path / "out", methods=("structrual",))
    with pytest.raises(InputError, match=r"--budget soon"):
        search(recipe, budget="soon", out=tmp_path / "out")
    with pytest.raises(InputError, match=r"no `teacher:`"):
        search(recipe.alone(), budget="1s", out=tmp_path / "out")


def test_a_trial_keeps_the_options_of_the_recipe_and_leaves_out_levels_where_that_means_something(tmp_path):
    recipe = recipe_in(tmp_path, distill=[{"method": "structural", "window": 7}])
    trial = Trial(number=0, methods="structural+rank_mimicking", ratio=0.7, strides=(8, 16))
    first, second = trial.terms(recipe, frozenset({"structural"}))
    assert first.model_extra == {"window": 7} and first.strides == [8, 16] and first.ratio == 0.7
    assert second.strides is None and second.weight == "auto"


def test_no_run_is_begun_that_would_not_fit(tmp_path):
    late = Bench(recipe_in(tmp_path), tmp_path, steps=[1, 3], seconds=0.0, reading_features=frozenset())
    assert not late.fits(0)


@pytest.mark.parametrize(
    ("trained_on", "seen"),
    [
        ({"images": 12}, 2),  # all training images, and the two that are held out among them
        ({"images": 12, "hold_out": 0.2}, 0),  # the very same are held out there
        ({"images": 12, "seed": 7}, 0),  # other images under the same names
        (None, None),  # a weights file tells nothing
    ],
)
def test_a_teacher_that_was_trained_on_what_is_held_out_is_noticed(
    tmp_path: Path, trained_on: dict[str, Any] | None, seen: int | None
) -> None:
    """A search on generated images, the teacher's run folder beside its weights."""
    teacher = teacher_file(tmp_path / "teacher")
    if trained_on is not None:
        write_recipe(Recipe.model_validate(tiny_recipe(data=trained_on)), tmp_path / "teacher" / "recipe.yaml")
    data = {"images": 12, "hold_out": 0.2}
    recipe = Recipe.model_validate(tiny_recipe(data=data, teacher={"run": str(teacher)}, distill=[{"method": "l2"}]))
    judged = open_data(recipe).val
    assert len(judged.index) == 2 and seen_in_training(recipe, judged) == [seen]
    lines = list(flattered(recipe, judged))
    assert len(lines) == bool(seen)
    if seen:
        assert "was trained on 2 of the 2 images" in lines[0] and "`data: {hold_out: 0.2}`" in lines[0]


def test_files_are_told_apart_by_where_they_lie(tmp_path: Path) -> None:
    """A share of the labels, and a copy of the folder under another name."""
    for folder in ("here", "copy"):
        source = ShapesSource(Shapes(images=10, image_size=64))
        convert({"train": source, "val": source}, "yolo", tmp_path / folder)
    (tmp_path / "teacher").mkdir()

    def of(folder: str, **more: Any) -> dict[str, Any]:
        path = str(tmp_path / folder / "data.yaml")
        return {"format": "yolo", "train": path, "val": path, "image_size": 64, **more}

    plain = tiny_recipe(data=None, teacher={"run": str(teacher_file(tmp_path / "teacher"))}, distill=[{"method": "l2"}])
    recipe = Recipe.model_validate({**plain, "data": of("here", hold_out=0.4)})
    judged = open_data(recipe).val
    found: list[int | None] = []
    for data in (of("here"), of("here", labels=0.3), of("copy"), of("gone")):
        write_recipe(
            Recipe.model_validate({**tiny_recipe(data=None), "data": data}), tmp_path / "teacher" / "recipe.yaml"
        )
        found += seen_in_training(recipe, judged)
    assert found == [4, 3, 0, None]  # the first three in the order of both choices are the labelled share


@pytest.mark.long
def test_the_evidence_and_the_table_say_what_the_teacher_has_seen(searched):
    _, result = searched
    assert result["held_out"] == {"images": 1, "seen_by_teachers": [None]}
    assert "is not known" in result["notes"][0] and result["notes"][0] in table(result)
