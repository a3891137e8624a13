"""Commands on what people really have: refused before training with the next step, or recorded as what ran."""

import json
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import tv_tensors
from train_cases import recipe_of, run

from fakes import CLASSES, tiny
from kdet.data import Shapes, ShapesSource, convert, open_source
from kdet.detectors import build, read_weights
from kdet.detectors.targets import checked_targets
from kdet.detectors.weights import load, named_as
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.train import Recipe
from kdet.train.build import resolved
from kdet.train.data import open_data
from kdet.train.recipe.file import read_recipe, write_recipe
from kdet.train.sound_data import require_sound
from kdet.train.state.resuming import begun_with, changed, jump, record
from kdet.train.state.run_folder import RECIPE
from kdet.train.teaching.teachers import build_teachers
from kdet.workflows.check.run import _image_doubts

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "_tiny"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training and two validation images on the disk."""
    shapes = Shapes(images=4, val_images=2, image_size=64, classes=3)
    folder = tmp_path_factory.mktemp("data") / "coco"
    convert({split: ShapesSource(shapes, split=split) for split in ("train", "val")}, "coco", folder)
    return folder


def on_disk(written: Path, **data: Any) -> Recipe:
    """A recipe for these images."""
    own = {"format": "coco", "train": str(written), "val": str(written), "image_size": 64} | data
    return Recipe.model_validate({"data": own, "student": {"detector": "retinanet", "backbone": "resnet10"}})


def without_boxes(written: Path, split: str, folder: Path) -> str:
    """The annotation file of a split with its boxes taken out."""
    content = json.loads((written / f"annotations_{split}.json").read_text())
    file = folder / f"annotations_{split}.json"
    file.write_text(json.dumps(content | {"annotations": []}))
    return str(file)


@pytest.mark.parametrize(("split", "use"), [("train", "learned"), ("val", "measured")])
def test_data_without_an_object_are_refused_before_anything_is_built(
    written: Path, tmp_path: Path, split: str, use: str
) -> None:
    recipe = on_disk(written, **{split: without_boxes(written, split, tmp_path), "images": str(written / "images")})
    with pytest.raises(InputError, match=f"holds an object, so nothing can be {use}"):
        open_data(recipe)


def test_batch_statistics_of_one_value_name_batch_size_and_norm(tmp_path: Path) -> None:
    student = {"detector": "ssdlite", "backbone": None, "anchor_scale": 1.0, "fpn_channels": 256, "width": 1.0}
    recipe = recipe_of(student=student, train={"batch_size": 1})
    with pytest.raises(InputError, match=r"train\.batch_size: 1 leaves one value .* `student: \{norm: group\}`"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resume_refuses_by_name_what_would_make_it_another_run(tmp_path: Path) -> None:
    begun = recipe_of(train={"epochs": 2, "lr": 0.01})
    write_recipe(resolved(begun), tmp_path / RECIPE)
    assert changed(resolved(begun), tmp_path) == {}
    for section, key, value in (
        ("train", "optimizer", "sgd"),
        ("train", "seed", 3),
        ("train", "ema", 0.9),
        ("data", "seed", 5),
        ("student", "fpn_channels", 64),
    ):
        train = {"epochs": 2, "lr": 0.01} | ({key: value} if section == "train" else {})
        other = recipe_of(**({} if section == "train" else {section: {key: value}}), train=train)
        with pytest.raises(InputError, match=rf"--resume cannot change {section}\.{key} from"):
            changed(resolved(other), tmp_path)


def test_a_resume_records_what_it_takes_anew_and_says_a_jump(tmp_path: Path) -> None:
    begun = recipe_of(train={"epochs": 2, "lr": 0.01, "lr_schedule": "cosine", "warmup_steps": 0})
    longer = recipe_of(train={"epochs": 8, "lr": 0.01, "lr_schedule": "cosine", "warmup_steps": 0})
    write_recipe(resolved(begun), tmp_path / RECIPE)
    found = changed(resolved(longer), tmp_path)
    assert found == {"train.epochs": (2, 8)}
    record(tmp_path, found, 4)
    record(tmp_path, {"train.lr": (0.01, 0.02)}, 6)
    kept = json.loads((tmp_path / "changes.json").read_text())
    assert [(entry["step"], entry["key"], entry["to"]) for entry in kept] == [
        (4, "train.epochs", 8),
        (6, "train.lr", 0.02),
    ]
    assert begun_with(longer, found) == begun
    # At the end of a cosine of 4 steps the rate is all but 0; in the middle of 16 it is above a half.
    assert "the learning rate goes on at 0.00" in (jump(begun, longer, 4, 4, 16) or "")
    assert jump(begun, begun, 2, 4, 4) is None


def test_images_that_training_would_stop_at_are_named_before(written: Path, tmp_path: Path) -> None:
    convert({"train": open_source("coco", written)}, "coco", tmp_path / "own")
    train, val = open_source("coco", tmp_path / "own"), open_source("coco", written, split="val")
    file = train.index.image(1)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="training data: 1 image that cannot be read"):
        require_sound(train, val, print)
    problems = list(_image_doubts(train, val))
    assert [problem.status for problem in problems] == ["failed"] and file.name in problems[0].text


def test_images_in_both_splits_are_said_and_refused_when_strict(written: Path) -> None:
    train = open_source("coco", written)
    said: list[str] = []
    require_sound(train, train, said.append)
    assert "4 of the 4 validation images are training images too" in said[0]
    with pytest.raises(InputError, match="training images too"):
        require_sound(train, train, print, strict=True)


def test_lists_of_sources_and_a_split_made_here(written: Path, tmp_path: Path) -> None:
    val = str(written / "annotations_val.json")
    listed = open_data(on_disk(written, train=[str(written / "annotations_train.json"), val], val=val))
    assert (len(listed.train.index), len(listed.val.index)) == (6, 2)
    divided = open_data(on_disk(written, val="split", split_off=0.25))
    assert len(divided.train.index) + len(divided.val.index) == 4 and len(divided.val.index) >= 1
    with pytest.raises(ValueError, match="val: missing"):
        Recipe.model_validate({"data": {"format": "coco", "train": "x"}, "student": {"detector": "retinanet"}})


def test_the_record_says_from_what_pixels_were_counted(tmp_path: Path) -> None:
    convert({"train": ShapesSource(Shapes(images=2, image_size=64))}, "voc", tmp_path / "voc")
    source = open_source("voc", tmp_path / "voc")
    recipe = on_disk(tmp_path / "voc", format="voc")
    assert resolved(recipe, source).data.model_dump()["first_pixel"] == 1
    with pytest.raises(InputError, match="first_pixel is of VOC data alone"):
        open_source("coco", tmp_path, first_pixel=0)


def test_the_order_of_a_teachers_classes_is_said_to_be_assumed_where_nobody_names_them(tmp_path: Path) -> None:
    torch.save(tiny().model.state_dict(), tmp_path / "bare.pt")
    shape = {"backbone": "resnet10", "width": 0.25, "fpn_channels": 32, "anchor_scale": 0.5}
    teacher = {"detector": "retinanet", **shape, "weights": str(tmp_path / "bare.pt")}
    recipe = recipe_of(teacher=teacher, distill=[{"method": "structural"}])
    said: list[str] = []
    (paired,) = build_teachers(recipe, CLASSES, said.append)
    assert paired.assumes_classes
    assert any(
        "bare.pt does not name its classes, so they are assumed to be the data's in this order" in s for s in said
    )
    named = recipe.model_copy(update={"teacher": recipe.teachers[0].model_copy(update={"classes": list(CLASSES)})})
    said.clear()
    assert not build_teachers(named, CLASSES, said.append)[0].assumes_classes
    assert not any("assumed" in line for line in said)


def test_names_in_recipes_are_text(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "data: {format: shapes, classes: 3}\nstudent: {detector: retinanet}\ndistill: [{method: structural}]\n"
        "teacher: {detector: retinanet, weights: x, classes: [012, 1e3, on, null], class_map: {012: circle, on: 7}}\n"
    )
    teacher: Any = read_recipe(tmp_path / "r.yaml", ["teacher.classes=[007, yes]"]).teachers[0]
    assert teacher.class_map == {"012": "circle", "on": "7"} and teacher.classes == ["007", "yes"]
    assert read_recipe(tmp_path / "r.yaml").teachers[0].model_dump()["classes"] == ["012", "1e3", "on", "null"]


WRAPPED: dict[str, Any] = {
    "as it is": lambda state: state,
    "of DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled, then parallel": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "with a trainer's arguments": lambda state: {
        "model": state,
        "args": Namespace(lr=0.1, out=Path("runs")),
        "epoch": 3,
    },
    "in dictionaries": lambda state: {"state": 1, "model": {"state_dict": state}},
    "with an average beside it": lambda state: {"model": state, "ema": {"module": state, "updates": 7}},
    "an average alone": lambda state: {"ema": {"module": state, "updates": 7}, "optimizer": {}},
    "of AveragedModel": lambda state: {f"module.{n}": v for n, v in state.items()} | {"n_averaged": torch.tensor(3)},
    "an attribute of an attribute": lambda state: {f"model.module.{n}": v for n, v in state.items()},
    "wrapped inside": lambda state: {n.replace("body.", "body._fsdp_wrapped_module.", 1): v for n, v in state.items()},
    "under a name of its own": lambda state: {
        "checkpoint": {"generator": dict(state)},
        "ema": state,
        "when": datetime.now(),
    },
    "with plain values beside": lambda state: {**state, "epoch": 3, "note": None, "_metadata": {"": 1}},
    "a teacher before it": lambda state: {f"{who}.{n}": v for who in ("teacher", "net") for n, v in state.items()},
    "numpy": lambda state: {name: value.numpy() for name, value in state.items()},
    "as an attribute, with a loss beside it": lambda state: {
        "state_dict": {f"detector.{n}": v for n, v in state.items()} | {"criterion.weight": torch.ones(3)}
    },
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_around_weights_are_taken_off_and_said(tmp_path: Path, name: str) -> None:
    source, target = tiny(seed=1), tiny(seed=2)
    torch.save(WRAPPED[name](source.model.state_dict()), tmp_path / "weights.pt")
    stored = read_weights(tmp_path / "weights.pt")
    assert load(target.model, stored, target.class_names) == []
    loaded = target.model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in source.model.state_dict().items())
    said = named_as(stored, source.model.state_dict()).said
    assert bool(said) == (name not in ("as it is", "numpy")) and not any("teacher" in line for line in said)


def test_broken_weights_are_named_wherever_they_come_from(tmp_path: Path) -> None:
    state = tiny().model.state_dict()
    state["head.regression_head.bbox_reg.bias"][0] = torch.inf
    torch.save(state, tmp_path / "weights.pt")
    shape: Any = {"backbone": "resnet10", "width": 0.25, "fpn_channels": 32, "anchor_scale": 0.5}
    with pytest.raises(InputError, match=r"weights.pt: 'head.regression_head.bbox_reg.bias' is not finite"):
        build("retinanet", classes=CLASSES, weights=str(tmp_path / "weights.pt"), **shape)


class Unknown:
    """What only running code could read."""


def test_what_cannot_be_read_safely_is_one_printable_line(tmp_path: Path) -> None:
    torch.save({"model": Unknown()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"it holds objects of .*Unknown, whose reading could run code") as caught:
        read_weights(tmp_path / "weights.pt")
    assert str(caught.value).isprintable() and "x1b" not in str(caught.value)


def test_weights_that_are_not_finite_name_the_first_tensor(tmp_path: Path) -> None:
    state = tiny().model.state_dict()
    name = list(state)[5]
    state[name] = torch.full_like(state[name], torch.nan, dtype=torch.float32)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=rf"weights.pt: '{name}' is not finite"):
        read_weights(tmp_path / "weights.pt")


def boxes(*rows: list[float], form: str | None = None, size: tuple[int, int] = (64, 64)) -> Any:
    values = torch.tensor(rows)
    return values if form is None else tv_tensors.BoundingBoxes(values, format=form, canvas_size=size)  # type: ignore


ONE = torch.tensor([1])
GOOD = {
    "XYXY": boxes([8, 10, 40, 38]),
    "tv XYWH": boxes([8, 10, 32, 28], form="XYWH"),
    "tv CXCYWH": boxes([24, 24, 32, 28], form="CXCYWH"),
    "whole numbers": torch.tensor([[8, 10, 40, 38]]),
}
BAD = {
    "label 0": (
        {"boxes": GOOD["XYXY"], "labels": torch.tensor([0])},
        "label 0 is none of 1…3, for 0 is",
    ),
    "label too high": ({"boxes": GOOD["XYXY"], "labels": torch.tensor([9])}, "label 9 is none of 1…3"),
    "more labels than boxes": ({"boxes": GOOD["XYXY"], "labels": torch.tensor([1, 2])}, "2 labels for 1 boxes"),
    "flat": ({"boxes": boxes([8, 10, 8, 38]), "labels": ONE}, r"box 0 is \[8.0, 10.0, 8.0, 38.0\]; expected finite"),
    "NaN": ({"boxes": boxes([8, float("nan"), 9, 38]), "labels": ONE}, "expected finite"),
    "rotated": ({"boxes": boxes([24.0, 24, 32, 28, 10], form="CXCYWHR"), "labels": ONE}, "are rotated"),
    "three numbers": ({"boxes": boxes([1, 2, 3]), "labels": ONE}, r"shape \(1, 3\); expected M×4"),
    "halves": ({"boxes": GOOD["XYXY"], "labels": torch.tensor([1.0])}, "expected M whole numbers"),
    "complex": ({"boxes": GOOD["XYXY"].to(torch.complex64), "labels": ONE}, "give plain numbers"),
    "sparse": ({"boxes": GOOD["XYXY"].to_sparse(), "labels": ONE}, "give plain numbers"),
    "column of labels": ({"boxes": GOOD["XYXY"], "labels": ONE[:, None]}, "expected M whole numbers"),
    "no labels": ({"boxes": GOOD["XYXY"]}, "expected a dictionary with the tensors"),
}


BAD_IMAGES: list[tuple[Any, str]] = [
    ([torch.zeros(3, 64, 64, dtype=torch.uint8)], "of torch.uint8; permute the axes, or divide whole numbers by 255"),
    ([torch.zeros(64, 64, 3)], r"expected a tensor 3×H×W of floats in 0…1, got \(64, 64, 3\)"),
    ([torch.zeros(3, 64, 64).numpy()], "expected a tensor 3×H×W in 0…1, got ndarray"),
    ([], "expected at least one image"),
]


@pytest.mark.parametrize("name", GOOD)
def test_targets_of_every_format_are_one(name: str) -> None:
    (target,) = checked_targets(
        [torch.zeros(3, 64, 64)], [{"boxes": GOOD[name], "labels": ONE}], ("__background__", "a")
    )
    assert target["boxes"].tolist() == [[8, 10, 40, 38]] and target["boxes"].dtype == torch.float32


@pytest.mark.parametrize("name", BAD)
def test_bad_targets_are_refused_in_one_line(name: str) -> None:
    target: Any = BAD[name][0]
    with pytest.raises(InputError, match=BAD[name][1]):
        checked_targets([torch.zeros(3, 64, 64)], [target], ("__background__", "a", "b", "c"))


def test_the_distiller_checks_what_it_is_given() -> None:
    distiller, images = Distiller(tiny()), [torch.rand(3, 64, 64)]
    nothing = distiller(images, [{"boxes": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}])
    assert torch.isfinite(nothing.total)
    assert torch.isfinite(distiller(images, [{"boxes": torch.tensor([]), "labels": torch.tensor([])}]).total)
    for wrong, words in BAD_IMAGES:
        with pytest.raises(InputError, match=words):
            distiller(wrong, [{"boxes": GOOD["XYXY"], "labels": ONE}])
    with pytest.raises(InputError, match="expected one target an image, got 2 targets for 1 images"):
        distiller(images, [{"boxes": GOOD["XYXY"], "labels": ONE}] * 2)


def test_classes_of_both_splits_are_matched_by_name_when_they_are_written(tmp_path: Path) -> None:
    if not CASES.is_dir():
        pytest.skip(f"the cases are not in {CASES}")
    images = CASES / "images"
    train = open_source("coco", CASES / "annotations_train.json", images=images)
    val = open_source("coco", CASES / "annotations_val_reversed.json", images=images)
    right = open_source("coco", CASES / "annotations_val.json", images=images)
    assert val.index.classes == tuple(reversed(train.index.classes))
    convert({"train": train, "val": val}, "yolo", tmp_path / "out")
    written = open_source("yolo", tmp_path / "out", split="val").index
    assert written.classes == train.index.classes
    assert written.class_counts() == right.index.class_counts()


def test_a_run_that_is_done_keeps_its_record(tmp_path: Path) -> None:
    """No step would have the new learning rate, and its recipe must not say so."""
    begun = recipe_of(train={"epochs": 1, "lr": 0.01})
    run(begun, tmp_path / "run")
    before = (tmp_path / "run" / RECIPE).read_bytes()
    for other, key in (({"lr": 0.001}, "train.lr 0.001"), ({"max_steps": 1}, "train.max_steps 1")):
        changed_recipe = recipe_of(train={"epochs": 1, "lr": 0.01} | other)
        with pytest.raises(InputError, match=rf"has done its 2 steps, so {key} would hold for none of them"):
            run(changed_recipe, tmp_path / "run", resume=True)
    run(recipe_of(train={"epochs": 1, "lr": 0.01, "log_every": 7}), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / RECIPE).read_bytes() == before and not (tmp_path / "run" / "changes.json").exists()
