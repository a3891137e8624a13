"""Bad input: one clear line on standard error, exit status 2, and nothing half-written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Command, Ended, in_own_process
from PIL import Image

from fakes import tiny_recipe, write_yaml

ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}


def assert_refused(ended: Ended, *words: str) -> None:
    """One line, the last, that says all of these words, and status 2; before it only what a good run says, too."""
    assert ended.status == 2, (ended.out, ended.err)
    *notes, line = ended.err.splitlines()
    usual = ("data: ", "canvas: ", "optimizer: ")
    assert line.startswith("kdet: ") and all(note.startswith(usual) for note in notes), ended.err
    assert ended.out == ""
    for word in words:
        assert word in line, ended.err


def recipe(kdet: Command, **sections: Any) -> Path:
    """A tiny recipe with changes, as a file."""
    return write_yaml(kdet.folder / "r.yaml", {**tiny_recipe(), **sections})


def coco(kdet: Command, content: Any = None, **annotation: Any) -> dict[str, Any]:
    """A COCO set of one image 40×30, its annotation changed; returns the recipe's data section."""
    (kdet.folder / "images").mkdir()
    Image.new("RGB", (40, 30)).save(kdet.folder / "images" / "a.png")
    whole = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [ANNOTATION | annotation],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (kdet.folder / "a.json").write_text(json.dumps(whole if content is None else content))
    return {"format": "coco", "train": "a.json", "val": "a.json", "image_size": 64}


def no_folder(kdet: Command) -> Path:
    return recipe(kdet, data={"format": "coco", "train": "nowhere", "val": "nowhere"})


def empty_folder(kdet: Command) -> Path:
    (kdet.folder / "empty").mkdir()
    return recipe(kdet, data={"format": "voc", "train": "empty", "val": "empty"})


def not_coco(kdet: Command) -> Path:
    return recipe(kdet, data=coco(kdet, content={"hello": 1}))


def box_outside(kdet: Command) -> Path:
    return recipe(kdet, data=coco(kdet, bbox=[30, 5, 20, 20]))


def empty_box(kdet: Command) -> Path:
    return recipe(kdet, data=coco(kdet, bbox=[5, 5, 0, 20]) | {"on_bad_box": "error"})


def broken_image(kdet: Command) -> Path:
    data = coco(kdet)
    (kdet.folder / "images" / "a.png").write_bytes(b"no picture")
    return recipe(kdet, data=data)


def truncated_image(kdet: Command) -> Path:
    data = coco(kdet)
    path = kdet.folder / "images" / "a.png"
    Image.effect_noise((40, 30), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-900])
    return recipe(kdet, data=data)


def unknown_key(kdet: Command) -> Path:
    return recipe(kdet, train={"epoch": 1})


def unknown_detector(kdet: Command) -> Path:
    return recipe(kdet, student={"detector": "yolo"})


def unknown_method(kdet: Command) -> Path:
    return recipe(kdet, teacher={"run": "t"}, distill=[{"method": "structurl"}])


def no_teacher_run(kdet: Command) -> Path:
    return recipe(kdet, teacher={"run": "nowhere"}, distill=[{"method": "structural"}])


CASES: dict[Callable[[Command], Path], tuple[str, ...]] = {
    no_folder: ("nowhere",),
    empty_folder: ("empty",),
    not_coco: ("a.json", "images"),
    box_outside: ("a.json", "1"),
    empty_box: ("a.json", "1"),
    broken_image: ("a.png",),
    truncated_image: ("a.png",),
    unknown_key: ("r.yaml:", "train.epoch", "did you mean 'epochs'?"),
    unknown_detector: ("unknown detector 'yolo'", "retinanet, fcos, faster_rcnn, cascade_rcnn, ssdlite"),
    unknown_method: ("unknown method 'structurl'", "did you mean 'structural'?"),
    no_teacher_run: ("nowhere",),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_wrong_recipe_or_data_set_makes_no_run(kdet: Command, case: Callable[[Command], Path]) -> None:
    path = case(kdet)
    before = kdet.files()
    command = "distill" if case in (unknown_method, no_teacher_run) else "train"
    assert_refused(kdet(command, path, "--run", "run"), *CASES[case])
    assert kdet.files() == before


def distilled_from(job: dict[str, Path], **sections: Any) -> dict[str, Any]:
    """A recipe on three generated classes whose teacher is the job's."""
    teacher = {"run": str(job["folder"] / "runs" / "teacher")}
    return {**tiny_recipe(), "teacher": teacher, "distill": [{"method": "structural"}], **sections}


def test_a_class_map_to_a_class_that_is_not_there_is_refused(job: dict[str, Path], kdet: Command) -> None:
    recipe = distilled_from(job)
    recipe["teacher"] = {**recipe["teacher"], "class_map": {"circle": "moon"}}
    path = write_yaml(kdet.folder / "r.yaml", recipe)
    assert_refused(kdet("distill", path, "--run", "run"), "leads to ['moon']", "which the student does not have")
    assert kdet.files() == {"r.yaml"}


@pytest.mark.parametrize("method", ["rank_mimicking", "prediction_guided"])
def test_a_dense_method_asked_of_faster_rcnn_says_what_to_use(job: dict[str, Path], kdet: Command, method: str) -> None:
    student = {**tiny_recipe()["student"], "detector": "faster_rcnn"}
    path = write_yaml(kdet.folder / "r.yaml", distilled_from(job, student=student, distill=[{"method": method}]))
    assert_refused(kdet("distill", path, "--run", "run"), method, "faster_rcnn", "two-stage", "use structural or lp")
    assert kdet.files() == {"r.yaml"}


def test_a_folder_that_holds_a_run_is_left_as_it_is(job: dict[str, Path], kdet: Command) -> None:
    run = job["folder"] / "runs" / "teacher"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ended = kdet("train", recipe(kdet), "--run", run)
    assert_refused(ended, "already holds a run", "--resume", "--run")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "nowhere", "--data", "."), ("nowhere",)),
        (("evaluate", ".", "--data", "."), ("not a run folder",)),
        (("predict", "nowhere", "."), ()),
        (("data", "inspect", "nowhere"), ("nowhere: no such file or folder",)),
        (("data", "inspect", "."), ("not a data set",)),
        (("data", "convert", "nowhere", "new", "--to", "voc"), ("nowhere",)),
        (("data", "shapes", "new", "-o", "classes=99"), ("classes: expected 1…20, got 99",)),
        (("data", "shapes", "new", "-o", "clases=2"), ("did you mean 'classes'?",)),
        (("data", "shapes", "new", "--to", "xlsx"), ("xlsx",)),
        (("train", "nowhere.yaml"), ("nowhere.yaml: no such recipe",)),
        (("distill", "nowhere.yaml", "--resume"), ("nowhere.yaml",)),
    ],
)
def test_wrong_paths_and_options_are_named(kdet: Command, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(kdet(*arguments), *words)
    assert kdet.files() == set()


def test_an_unreadable_photo_leaves_no_half_written_predictions(job: dict[str, Path], kdet: Command) -> None:
    Image.new("RGB", (40, 30)).save(kdet.folder / "a.png")
    (kdet.folder / "b.png").write_bytes(b"no picture")
    assert_refused(kdet("predict", job["folder"] / "runs" / "small", "a.png", "b.png"), "b.png")
    assert kdet.files() == {"a.png", "b.png"}


def test_distill_without_a_teacher_points_to_train(kdet: Command) -> None:
    assert_refused(kdet("distill", recipe(kdet), "--run", "run"), "no `teacher:`", "kdet train")
    assert kdet.files() == {"r.yaml"}


@pytest.mark.long
def test_in_a_process_of_its_own_there_is_no_traceback_either(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "r.yaml", {**tiny_recipe(), "train": {"epoch": 1}})
    assert_refused(in_own_process("train", path, folder=tmp_path), "did you mean 'epochs'?")
    assert [p.name for p in tmp_path.iterdir()] == ["r.yaml"]
