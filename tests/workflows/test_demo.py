"""The demo's whole path on a handful of images, and that its arms are fair."""

import json
import shutil

import pytest

from kdet.errors import InputError
from kdet.train.build import resolved
from kdet.train.recipe.file import write_recipe
from kdet.workflows import demo


def shrink(patch: pytest.MonkeyPatch) -> None:
    """To a few steps."""
    patch.setattr(demo, "DATA", demo.DATA | {"images": 32, "val_images": 8})
    patch.setattr(demo, "TEACHER_EPOCHS", 1)
    patch.setattr(demo, "STUDENT_EPOCHS", 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A demo of a few steps: (result, folder)."""
    patch = pytest.MonkeyPatch()
    shrink(patch)
    folder = tmp_path_factory.mktemp("demo") / "out"
    result = demo.run_demo(folder, seed=3)
    patch.undo()
    return result, folder


@pytest.mark.long
def test_result_has_a_row_for_every_arm(tiny):
    result, _ = tiny
    assert set(demo.LABELS) <= set(result)
    for arm in demo.LABELS:
        assert {"AP", "AP50", "parameters", "steps", "train_seconds", "gain"} <= set(result[arm])


@pytest.mark.long
def test_gain_is_ap_over_alone_and_ap_is_that_of_the_run(tiny):
    result, folder = tiny
    assert result["distilled"]["gain"] == result["distilled"]["AP"] - result["alone"]["AP"]
    assert result["alone"]["gain"] is None and result["teacher"]["gain"] is None
    for arm in demo.LABELS:
        assert result[arm]["AP"] == json.loads((folder / arm / "metrics.json").read_text())["AP"]


@pytest.mark.long
def test_page_pictures_and_numbers_are_written(tiny):
    result, folder = tiny
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert all(label.replace("'", "&#39;") in page for label in demo.LABELS.values())
    assert len(list((folder / "pictures").glob("*.png"))) == 6
    assert json.loads((folder / "demo.json").read_text())["distilled"] == result["distilled"]


def test_students_share_budget_learning_rate_data_and_model(tmp_path):
    recipes = [demo.recipe_of(arm, 0, teacher=tmp_path) for arm in ("alone", *demo.DISTILL)]
    assert len({recipe.train.model_dump_json() for recipe in recipes}) == 1
    assert len({recipe.student.model_dump_json() for recipe in recipes}) == 1
    assert len({recipe.data.model_dump_json() for recipe in recipes}) == 1


def test_longer_stretches_steps_and_schedule():
    once, longer = demo.recipe_of("alone", 0), demo.recipe_of("alone", 0, longer=1.5)
    assert longer.train.max_steps == round(1.5 * once.train.max_steps)
    assert longer.train.epochs * (demo.DATA["images"] // longer.train.batch_size) >= longer.train.max_steps


def test_one_student_trains_four_times_as_long():
    once, longer = demo.recipe_of("alone", 0), demo.recipe_of("alone", 0, longer=demo.LONGER)
    assert longer.train.max_steps == 4 * once.train.max_steps
    assert "four times" in demo.LABELS["alone_longer"]


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="--out"):
        demo.run_demo(tmp_path)


@pytest.mark.long
def test_an_interrupted_demo_goes_on_and_a_finished_one_stays(tiny, tmp_path, monkeypatch):
    result, folder = tiny
    with pytest.raises(InputError, match="not empty"):
        demo.run_demo(folder, seed=3)
    for name, value in {
        "DATA": demo.DATA | {"images": 32, "val_images": 8},
        "TEACHER_EPOCHS": 1,
        "STUDENT_EPOCHS": 1,
    }.items():
        monkeypatch.setattr(demo, name, value)
    halfway = tmp_path / "out"
    shutil.copytree(folder, halfway)
    (halfway / "demo.json").unlink()
    shutil.rmtree(halfway / "l2")
    for arm in demo.DISTILL:  # their teacher lies in another folder here
        recipe = demo.recipe_of(arm, 3, teacher=halfway / "teacher")
        if (halfway / arm).exists():
            write_recipe(resolved(recipe), halfway / arm / "recipe.yaml")
    again = demo.run_demo(halfway, seed=3)
    assert {arm: again[arm]["AP"] for arm in demo.LABELS if arm != "alone_same_time"} == {
        arm: result[arm]["AP"] for arm in demo.LABELS if arm != "alone_same_time"
    }


@pytest.mark.long
def test_table_names_every_arm(tiny):
    result, _ = tiny
    text = demo.table(result)
    assert all(label in text for label in demo.LABELS.values()) and "one seed" in text
