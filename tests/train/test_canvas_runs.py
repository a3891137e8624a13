"""Runs on images that are no squares: what trains, evaluates, teaches, goes on and is exported has one canvas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from train_cases import recipe_of, records, run, teacher_file

from export_fakes import written
from fakes import coco_of, same_state
from kdet.data import DetectionDataset, FileSource, Pipeline, evaluation_batches, make_loader
from kdet.data.formats.coco import reader as coco
from kdet.errors import InputError
from kdet.evaluate import evaluate
from kdet.export import about_export
from kdet.export.about import About
from kdet.train import load_detector
from kdet.train.state.run_folder import RECIPE, as_begun
from kdet.types import Detector
from kdet.workflows.compare.rounds import require_same_recipe
from kdet.workflows.export import canvas_for

SSDLITE = {"detector": "ssdlite", "backbone": None, "width": 0.25}
TRAIN = {"epochs": 2, "batch_size": 2, "optimizer": "adamw", "lr": 0.01, "lr_schedule": "constant", "warmup_steps": 0}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of 48×96 pixels and one of 96×48."""
    return coco_of(tmp_path_factory.mktemp("wide") / "data", [(48, 96)] * 4 + [(96, 48)])


def recipe_on(file: Path, student: dict[str, Any] | None = None, **sections: Any) -> Any:
    data = {"format": "coco", "train": str(file), "val": str(file), "image_size": 64, **sections.pop("data", {})}
    made = recipe_of(**{"train": TRAIN, **sections}).model_dump()
    return recipe_of().model_validate({**made, "data": data, **({"student": student} if student else {})})


def said(folder: Path) -> list[str]:
    return [record["text"] for record in records(folder, "note")]


def found_by(detector: Detector, file: Path, canvas: Any) -> list[list[float]]:
    """Every box with its score, as `kdet evaluate` finds them on a canvas; boxes as COCO's x y w h."""
    data = DetectionDataset(FileSource(coco.read(file)), Pipeline(64, canvas=canvas))
    loader = make_loader(data, evaluation_batches(len(data), batch_size=2))
    images = evaluate(detector, loader, data.source.index, device="cpu").predictions
    return [
        [image.image_id, score, left, top, right - left, bottom - top]
        for image in images
        for score, (left, top, right, bottom) in zip(image.scores.tolist(), image.boxes_xyxy.tolist(), strict=True)
    ]


def recorded(path: Path) -> list[list[float]]:
    results = json.loads(path.read_text())["results"]
    return [[one["image_id"], one["score"], *one["bbox"]] for one in results]


def test_a_finished_student_is_evaluated_as_it_was_trained(wide: Path, tmp_path: Path) -> None:
    run(recipe_on(wide, SSDLITE), tmp_path / "run")
    assert "canvas: stretch 64×64, as the SSD of torchvision has it" in said(tmp_path / "run")
    again = load_detector(tmp_path / "run" / "student-last.safetensors")
    assert again.canvas == "stretch"
    expected = torch.tensor(recorded(tmp_path / "run" / "predictions.json"))
    assert len(expected) > 50
    torch.testing.assert_close(torch.tensor(found_by(again, wide, again.canvas)), expected, atol=1e-2, rtol=1e-4)
    other = torch.tensor(found_by(again, wide, "pad"))
    assert other.shape != expected.shape or not torch.allclose(other, expected, atol=1)


@pytest.mark.parametrize(("asked", "hw"), [("auto", (64, 64)), ("letterbox", (64, 64)), ("pad", (32, 64))])
def test_the_recipe_may_ask_for_another(asked: str, hw: Any, wide: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A batch of wide images alone is 32×64 on pad."""
    from kdet.detectors.torchvision.ssd import SsdDetector

    shapes: set[tuple[int, int]] = set()
    observe = SsdDetector.observe

    def watched(self: Any, batch: Any, *rest: Any) -> Any:
        if all(size == (32, 64) or asked == "auto" for size in batch.sizes_hw):
            shapes.add(tuple(batch.images.shape[-2:]))
        return observe(self, batch, *rest)

    monkeypatch.setattr(SsdDetector, "observe", watched)
    run(recipe_on(wide, SSDLITE, data={"canvas": asked}), tmp_path / "run")
    assert shapes == {hw}
    (line,) = [line for line in said(tmp_path / "run") if line.startswith("canvas: ")]
    assert line.endswith("has it" if asked == "auto" else "as the recipe says")
    assert load_detector(tmp_path / "run" / "student-last.safetensors").canvas == (
        "stretch" if asked == "auto" else asked
    )


def test_a_run_goes_on_as_if_it_had_not_stopped(wide: Path, tmp_path: Path) -> None:
    run(recipe_on(wide, SSDLITE), tmp_path / "whole")
    run(recipe_on(wide, SSDLITE, train={**TRAIN, "max_steps": 2}), tmp_path / "parted")
    run(recipe_on(wide, SSDLITE), tmp_path / "parted", resume=True)
    whole, parted = (load_file(tmp_path / name / "student-last.safetensors") for name in ("whole", "parted"))
    assert same_state(whole, parted)


def test_a_run_from_before_there_were_canvases_goes_on_without(wide: Path, tmp_path: Path) -> None:
    recipe = recipe_on(wide, SSDLITE)
    content = recipe.model_dump(mode="json")
    (tmp_path / RECIPE).write_text(yaml.safe_dump(content))
    assert as_begun(recipe, tmp_path).data.canvas == "auto"
    del content["data"]["canvas"]
    (tmp_path / RECIPE).write_text(yaml.safe_dump(content))
    assert as_begun(recipe, tmp_path).data.canvas == "pad"
    assert as_begun(recipe, tmp_path / "nothing").data.canvas == "auto"
    with pytest.raises(InputError, match=r"another recipe \(data.canvas: auto here, pad there\)"):
        require_same_recipe(recipe, tmp_path)  # a comparison does not go on on another canvas


def test_a_teacher_is_scored_on_what_it_shows_the_student(wide: Path, tmp_path: Path) -> None:
    path = teacher_file(tmp_path / "teacher", classes=("circle",))
    teaching = {"teacher": {"run": str(path)}, "distill": [{"method": "structural"}]}
    run(recipe_on(wide, SSDLITE, **teaching), tmp_path / "run")
    lines = said(tmp_path / "run")
    assert any(
        line.startswith("teacher: its own canvas is pad, but it sees the student's pixels (str") for line in lines
    )
    teacher = load_detector(path)
    expected = torch.tensor(recorded(tmp_path / "run" / "teacher-predictions.json"))
    assert len(expected) > 50
    torch.testing.assert_close(torch.tensor(found_by(teacher, wide, "stretch")), expected, atol=1e-2, rtol=1e-4)
    assert teacher.canvas == "pad"


def test_answers_of_another_canvas_are_not_taken(wide: Path, tmp_path: Path) -> None:
    path = teacher_file(tmp_path / "teacher", classes=("circle",))
    teaching = {"teacher": {"run": str(path), "cache": str(tmp_path / "cache")}, "distill": [{"method": "structural"}]}
    run(recipe_on(wide, SSDLITE, **teaching), tmp_path / "first")
    with pytest.raises(
        InputError, match="a cache of something else, made with canvas 'stretch'; this run has 'letterbox'"
    ):
        run(recipe_on(wide, SSDLITE, data={"canvas": "letterbox"}, **teaching), tmp_path / "second")


def test_a_square_without_its_side_leaves_nothing_behind(wide: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image_size: \[64, 96\].*canvas stretch is a square; give its side"):
        run(recipe_on(wide, SSDLITE, data={"image_size": [64, 96]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_an_export_has_the_students_square_and_finds_the_same_on_any_image(wide: Path, tmp_path: Path) -> None:
    run(recipe_on(wide, SSDLITE), tmp_path / "run")
    detector = load_detector(tmp_path / "run" / "student-last.safetensors")
    index = coco.read(wide)
    assert canvas_for(index.sizes_hw, 64, "stretch") == canvas_for(index.sizes_hw, 64, "letterbox") == (64, 64)
    assert canvas_for(index.sizes_hw[:4], 64, "pad") == (32, 64)
    detector.model.eval()
    exported = written(tmp_path, detector, "pt2")
    assert (exported.about.canvas, exported.about.size_hw, exported.canvas) == ("stretch", (64, 64), "stretch")
    ours, theirs = (torch.tensor(found_by(one, wide, one.canvas)) for one in (detector, exported))
    assert len(ours) == len(theirs) > 50
    torch.testing.assert_close(ours[:, :2], theirs[:, :2], atol=1e-4, rtol=0)
    assert ((ours - theirs).abs() < 0.1).float().mean() > 0.98, "of equal scores another may come first"
    old = json.loads(exported.about.as_text())
    del old["canvas"]
    assert About.from_text(json.dumps(old), tmp_path).canvas == "pad"


def test_another_shape_is_for_those_that_keep_the_aspect(tmp_path: Path) -> None:
    from fakes import tiny

    detector = tiny("ssdlite")
    with pytest.raises(
        InputError, match=r"64x96: the ssdlite was trained on images squeezed into a square; give one, such"
    ):
        about_export(detector, size_hw=(64, 96), batch=1, normalises=True, selects=False)
    detector.canvas = "letterbox"
    about = about_export(detector, size_hw=(64, 96), batch=1, normalises=True, selects=False)
    assert (about.canvas, about.image_size) == ("pad", (64, 96))
    square = about_export(detector, size_hw=(64, 64), batch=1, normalises=True, selects=False)
    assert (square.canvas, square.image_size) == ("letterbox", 64)
