"""A detector that the user's own function builds: only where he allows it, and like any other from there on."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from kdet import detectors
from kdet.cli.app import app
from kdet.errors import InputError
from kdet.train import Recipe, fit, load_detector
from kdet.train.build import build_student

CODE = """
import torch, torchvision
from pathlib import Path
Path("was_imported").touch()

def known(classes, detections=200):
    parts = dict(weights=None, weights_backbone=None, num_classes=len(classes) + 1, detections_per_img=detections)
    return torchvision.models.detection.ssdlite320_mobilenet_v3_large(**parts)

def fails(classes):
    raise RuntimeError("out of ideas")

def wrong(classes):
    return {"model": None}

number = 3
"""
CLASSES = ["circle", "square", "triangle"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with code of the user's, which may run."""
    (tmp_path / "own_models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(detectors.ALLOWED, "1")
    monkeypatch.delitem(__import__("sys").modules, "own_models", raising=False)
    return tmp_path


def recipe(**student: object) -> Recipe:
    data = {"format": "shapes", "images": 4, "val_images": 2, "image_size": 64}
    train = {"max_steps": 1, "batch_size": 2}
    return Recipe.model_validate({"data": data, "student": {"factory": "own_models:known", **student}, "train": train})


def quiet(_: str) -> None:
    pass


def test_is_refused_and_not_even_imported_without_permission(here, monkeypatch):
    monkeypatch.delenv(detectors.ALLOWED)
    with pytest.raises(InputError, match="runs code of yours; if you trust it, add --allow-code"):
        build_student(recipe(), CLASSES, quiet)
    assert not (here / "was_imported").exists()


def test_a_known_module_is_wrapped_with_the_classes_of_the_data(here):
    student = build_student(recipe(), CLASSES, quiet)
    assert (student.family, student.class_names[1:]) == ("ssdlite", tuple(CLASSES))
    assert student.image_size == 64


def test_the_run_is_loaded_by_the_same_function(here):
    folder = fit(recipe(options={"detections": 50}), here / "run").folder
    assert (here / "was_imported").exists()
    loaded = load_detector(folder)
    loaded.model.eval()
    again = load_detector(folder / "student-last.safetensors")
    assert loaded.model.detections_per_img == 50
    assert loaded.build_arguments is not None and loaded.build_arguments["options"] == {"detections": 50}
    for name, tensor in again.native_state().items():
        assert torch.equal(tensor, loaded.native_state()[name]), name
    assert not (folder / "student_model").exists()  # that would build detectors of kdet alone


def test_a_run_of_such_code_is_not_loaded_without_permission(here, monkeypatch):
    folder = fit(recipe(), here / "run").folder
    monkeypatch.delenv(detectors.ALLOWED)
    with pytest.raises(InputError, match="--allow-code"):
        load_detector(folder)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("own_models", "expected module:function"),
        ("own_models:", "expected module:function"),
        ("nowhere_to_be_found:build", "cannot be imported from .*ModuleNotFoundError"),
        ("own_models:absent", "has no function 'absent'"),
        ("own_models:number", "has no function 'number'"),
        ("own_models:fails", r"failed: RuntimeError: out of ideas \(.*own_models.py:11\)"),
        ("own_models:wrong", "returned a dict; expected what kdet.wrap takes or returns"),
    ],
)
def test_says_what_is_wrong_with_the_function(here, factory, message):
    with pytest.raises(InputError, match=message):
        build_student(recipe(factory=factory), CLASSES, quiet)


def test_unknown_options_are_the_functions_own_error(here):
    with pytest.raises(InputError, match="unexpected keyword argument 'colour'"):
        build_student(recipe(options={"colour": 1}), CLASSES, quiet)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"detector": "retinanet"}, "leave out `detector: retinanet`"),
        ({"backbone": "resnet18"}, "leave out backbone"),
        ({"config": {"model_type": "rt_detr"}}, "config: belongs to detector hf"),
        ({"factory": None, "detector": "retinanet", "options": {"a": 1}}, "options: belongs to detector factory"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(here, student, message):
    with pytest.raises((InputError, ValueError), match=message):
        build_student(recipe(**student), CLASSES, quiet)


def test_the_flag_allows_it_on_the_command_line(here, monkeypatch):
    monkeypatch.setenv(detectors.ALLOWED, "0")
    (here / "recipe.yaml").write_text(json.dumps(recipe().model_dump(mode="json")))
    run = CliRunner()
    refused = run.invoke(app, ["train", "recipe.yaml", "--run", "a"])
    assert isinstance(refused.exception, InputError)
    done = run.invoke(app, ["train", "recipe.yaml", "--run", "b", "--allow-code", "--json"])
    assert done.exit_code == 0, done.output
    assert (here / "b" / "student.safetensors").exists()
