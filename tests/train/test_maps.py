"""What a finished run leaves for its page to draw."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from train_cases import distilled, recipe_of, run

from kdet.evaluate import read_predictions
from kdet.report import run_page


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "maps" / "maps.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled run of one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    run(distilled(folder, train={"epochs": 1}), folder / "run")
    return folder / "run"


def test_images_are_those_that_differ_most_and_the_first_two_are_looked_into(finished: Path) -> None:
    about = content(finished)
    pictures = about["pictures"]
    assert about["compared_with"] == "teacher" and len(pictures) == 4
    apart = [picture["difference"] for picture in pictures]
    assert apart == sorted(apart, reverse=True)
    assert [len(picture["levels"]) for picture in pictures] == [5, 5, 0, 0]


def test_every_file_is_there_at_its_size(finished: Path) -> None:
    for picture in content(finished)["pictures"]:
        with Image.open(finished / "maps" / picture["file"]) as image:
            assert image.size == (64, 64) == (picture["width"], picture["height"])
        for level in picture["levels"]:
            for side in ("teacher", "student", "similarity"):
                with Image.open(finished / "maps" / level[side]["file"]) as grey:
                    assert (grey.mode, grey.size) == ("L", (64 // level["stride"] or 1,) * 2)
            assert level["student"]["low"] <= level["student"]["high"]
            assert -1 <= level["similarity"]["mean"] <= 1


def test_the_teachers_detections_are_kept_for_the_same_images(finished: Path) -> None:
    ours, classes = read_predictions(finished / "predictions.json")
    theirs, same_classes = read_predictions(finished / "teacher-predictions.json")
    assert classes == same_classes and {one.image_id for one in ours} == {one.image_id for one in theirs}
    assert json.loads((finished / "teacher-curves.json").read_text()).keys() >= {"recall", "precision", "per_class"}


def test_the_page_of_a_real_run_draws_all_of_it(finished: Path) -> None:
    page = run_page([finished])
    for words in ("Pull of each term", "What they find", "Inside teacher and student", "its teacher", "SSIM"):
        assert words in page
    assert page.count("data:image/jpeg") == 4 * 3 + 2


def test_a_student_alone_is_held_against_the_truth(tmp_path: Path) -> None:
    run(recipe_of(train={"epochs": 1, "ema": 0.9}), tmp_path / "run")
    about = content(tmp_path / "run")
    assert about["compared_with"] == "truth"
    objects = [len(picture["truth"]) for picture in about["pictures"]]
    # Nothing learnt in two steps reaches a score that is drawn, so what is missed is every object.
    assert [picture["difference"] for picture in about["pictures"]] == pytest.approx(objects, abs=0.5)
    assert not any(picture["levels"] for picture in about["pictures"])
