"""Images without labels: which, in which batches, and with which boxes of the teacher; an arm of these boxes alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_resume import assert_bit_for_bit
from torch import Tensor, nn
from train_cases import distilled, recipe_of, records, run, teacher_file

import kdet
from fakes import coco_of
from kdet.data import DetectionDataset, EpochSampler, Source, collate
from kdet.detectors.modules.own_code import ALLOWED
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.evaluate import ImagePredictions
from kdet.train import Recipe, write_recipe
from kdet.train.data import open_data
from kdet.train.prepare import prepare
from kdet.train.processes.engine import Engine
from kdet.train.recipe.models import RunTeacher
from kdet.train.state.run_folder import RECIPE
from kdet.train.teaching.teacher_boxes import put_teacher_boxes
from kdet.train.teaching.thresholds import choose_thresholds
from kdet.types import Detector, Sample
from kdet.workflows.check.run import check
from kdet.workflows.compare.arms import arms_of, recipe_for, require_buildable

FEW = {"format": "shapes", "images": 8, "val_images": 4, "image_size": 64, "scale": [0.3, 0.6], "clutter": 0}
SIZES_HW = [(64, 96), (80, 64), (48, 96), (96, 96), (64, 64), (96, 64)]
FOUND: list[int] = []
"""Images that a made-up teacher has looked at, a number a call."""


class Dark(nn.Module):
    """Some features."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = nn.Conv2d(3, 8, 3, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(images)


def made_finder(*, classes: Sequence[str], score: float = 0.9, false_score: float = 0.0) -> Detector:
    """Finds the dark rectangle of every image of `coco_of` to the pixel, and a false box beside it."""

    def predict(model: nn.Module, images: Tensor, sizes_hw: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        FOUND.append(len(images))
        found = []
        for image, (height, width) in zip(images, sizes_hw, strict=True):
            boxes = [dark_box(image[:, :height, :width]), torch.tensor([width * 0.75, 0, width, height * 0.2])]
            labels = torch.full((2,), classes.index("circle"))
            found.append({"boxes": torch.stack(boxes), "scores": torch.tensor([score, false_score]), "labels": labels})
        return found

    return kdet.wrap(Dark(), list(classes), features=["neck"], strides=[8], predict=predict)


def dark_box(image: Tensor) -> Tensor:
    """Around the pixels that are dark as `coco_of` draws its object."""
    rows, columns = (torch.nonzero((image.amax(0) < 0.3).any(dim)).flatten() for dim in (1, 0))
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


@pytest.fixture(autouse=True)
def _own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "1")
    FOUND.clear()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe of six labelled images, six others in a folder, and a teacher that finds the objects of both."""
    coco_of(tmp_path / "labelled", SIZES_HW)
    coco_of(tmp_path / "others", SIZES_HW)
    file = str(tmp_path / "labelled" / "annotations_train.json")

    def recipe(*methods: str, teacher: dict[str, Any] | None = None, **sections: Any) -> Recipe:
        own = {"images": str(tmp_path / "others" / "images"), "per_batch": 2} | sections.pop("unlabelled", {})
        data = {"format": "coco", "train": file, "val": file, "image_size": 64, "unlabelled": own}
        options = (teacher or {}).pop("options", {})
        finder = {
            "factory": "test_unlabelled:made_finder",
            "options": options,
            "classes": ["circle"],
            **(teacher or {}),
        }
        given = {
            "data": None,
            "train": {"batch_size": 2, "epochs": 1},
            "teacher": finder,
            "distill": [{"method": method} for method in methods],
            **sections,
        }
        plain = recipe_of().model_dump(mode="json", include={"student", "train"})
        given["train"] = plain["train"] | given["train"]
        return Recipe.model_validate({**plain, **given, "data": data | sections.get("data", {})})

    return recipe


def prepared(recipe: Recipe) -> tuple[Distiller, DetectionDataset, list[str]]:
    """The training set as a run has it before its first step, and what was said."""
    own = prepare(recipe)
    said = own.splits.notes + own.notes
    put_teacher_boxes(recipe, own.distiller, own.data, Engine(), said.append)
    return own.distiller, own.data, said


def log_of(folder: Path) -> str:
    return (folder / "log.jsonl").read_text(encoding="utf-8")


def test_boxes_move_with_the_augmented_image_that_the_student_sees(make: Callable[..., Recipe]) -> None:
    _, data, _ = prepared(make(data={"augment": {"flip": 0.5, "vertical_flip": 0.5, "scale": [0.7, 1.0]}}))
    assert len(data) == 12
    columns = set()
    for row in range(6, 12):
        for epoch in range(4):
            sample = data[epoch, row]
            (box,) = sample.target["boxes"]
            assert (box - dark_box(sample.image / 255)).abs().max() <= 1.5  # resizing blurs the edge
            columns |= set(sample.target["labels"].tolist())
    assert columns == {1}  # the student's, whose first is the background


def test_the_teacher_looks_once_at_each_image_and_at_no_augmented_one(
    make: Callable[..., Recipe], tmp_path: Path
) -> None:
    run(make(), tmp_path / "run")
    of_the_validation = 6
    assert sum(FOUND) == len(SIZES_HW) + of_the_validation
    found = json.loads((tmp_path / "run" / "unlabelled.json").read_text())
    assert (found["images"], found["with_boxes"], found["boxes"], found["score"]) == (6, 6, {"circle": 6}, 0.5)
    assert "unlabelled: the teacher's boxes on 6 of 6 images: circle 6" in log_of(tmp_path / "run")


def test_what_a_cache_holds_is_not_looked_for_again_and_is_the_same(
    make: Callable[..., Recipe], tmp_path: Path
) -> None:
    cached = {"cache": str(tmp_path / "cache")}
    run(make(), tmp_path / "without")
    prepared(make(teacher=dict(cached)))
    assert sum(FOUND) == 12 + 6  # both, and of the first run the validation images
    run(make(teacher=dict(cached), unlabelled={"score": 0.8}), tmp_path / "second")
    assert sum(FOUND) == 12 + 6 + 6
    assert_bit_for_bit(tmp_path / "without", tmp_path / "second")
    entry = next((tmp_path / "cache" / "detections").glob("*/*.safetensors"))
    entry.write_bytes(b"cut short")
    data = prepared(make(teacher=dict(cached)))[1]
    assert data.source.index.class_counts()["circle"] == 12 and sum(FOUND) == 12 + 6 + 6 + 1


def test_a_cache_of_other_classes_is_refused(make: Callable[..., Recipe], tmp_path: Path) -> None:
    cached = {"cache": str(tmp_path / "cache")}
    prepared(make(teacher=dict(cached)))
    with pytest.raises(InputError, match="a cache of something else, made with classes"):
        prepared(make(teacher={**cached, "classes": ["ring", "circle"]}))


def test_a_score_cuts_what_is_less_sure(make: Callable[..., Recipe]) -> None:
    options = {"score": 0.9, "false_score": 0.6}
    counts = []
    for score in (0.5, 0.7):
        data = prepared(make(teacher={"options": dict(options)}, unlabelled={"score": score}))[1]
        counts.append([len(data[0, row].target["boxes"]) for row in range(6, 12)])
    assert counts == [[2] * 6, [1] * 6]


def test_auto_takes_the_score_that_is_right_on_labelled_images(make: Callable[..., Recipe]) -> None:
    recipe = make(teacher={"options": {"score": 0.4, "false_score": 0.3}}, unlabelled={"score": "auto"})
    _, data, said = prepared(recipe)
    assert [len(data[0, row].target["boxes"]) for row in range(6, 12)] == [1] * 6
    (line,) = [line for line in said if line.startswith("score: auto")]
    assert "boxes from circle 0.40 (F1 1.00) on, by 6 labelled training images" in line


@pytest.mark.parametrize(
    ("hold_out", "images", "words"),
    [(0.5, 20, "that the teacher was not trained on"), (None, 40, "that the teacher was trained on: it is surer")],
)
def test_auto_prefers_images_that_the_teacher_has_not_seen(
    tmp_path: Path, hold_out: float | None, images: int, words: str
) -> None:
    data = {"format": "shapes", "images": 40, "image_size": 32, "objects": [2, 3], "clutter": 0}
    (tmp_path / "teacher").mkdir()
    write_recipe(recipe_of(data=data | {"hold_out": hold_out}), tmp_path / "teacher" / RECIPE)
    recipe, said = recipe_of(data=data), list[str]()
    labelled = open_data(recipe).train
    looked_at: list[list[int]] = []

    def find(source: Source) -> list[ImagePredictions]:
        looked_at.append(source.index.image_ids.tolist())
        own = [source.index.objects(i) for i in range(len(source.index))]
        return [
            ImagePredictions(
                image_id=i, boxes_xyxy=o.boxes_xyxy, scores=np.full(len(o.labels), 0.3, np.float32), labels=o.labels
            )
            for i, o in zip(source.index.image_ids.tolist(), own, strict=True)
        ]

    found = choose_thresholds(recipe, RunTeacher(run=tmp_path / "teacher"), labelled, find, said.append)
    assert len(looked_at[0]) == images and words in said[-1]
    assert [one.score for one in found.values()] == [pytest.approx(0.3)] * 3
    if hold_out:
        seen = open_data(recipe_of(data=data | {"hold_out": hold_out})).train.index.image_ids
        assert not set(looked_at[0]) & set(seen.tolist())


def test_feature_terms_read_both_kinds_of_images(make: Callable[..., Recipe]) -> None:
    distiller, data, _ = prepared(make("l2"))
    distiller.eval()
    criterion, pair = distiller.criterion, [data[0, 3], data[0, 9]]  # of one size
    assert criterion is not None

    def value(samples: Sequence[Sample]) -> Tensor:
        return criterion.raw(distiller.observe_pair(collate(samples), only=criterion.student_needs)[1])["l2"]

    with torch.no_grad():
        both, labelled, other = value(pair), value(pair[:1]), value(pair[1:])
    torch.testing.assert_close(both, (labelled + other) / 2)
    assert not torch.allclose(labelled, other)


def test_soft_targets_draw_the_teachers_boxes_by_their_scores(make: Callable[..., Recipe]) -> None:
    recipe = make(teacher={"options": {"score": 0.6}}, data={"soft_targets": True})
    data = prepared(recipe)[1]
    counts = [len(data[epoch, row].target["boxes"]) for epoch in range(40) for row in range(6, 12)]
    assert set(counts) == {0, 1} and abs(sum(counts) / 240 - 0.6) < 4 * (0.24 / 240) ** 0.5
    assert all(len(data[epoch, row].target["boxes"]) == 1 for epoch in range(10) for row in range(6))  # people's


def test_the_teachers_boxes_alone_are_an_arm(make: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = make("structural", teacher={"distill": [{"method": "l2"}]}, arms={"boxes": []})
    none, boxes, structural = arms_of(recipe, ["none", "boxes", "structural"])
    alone, boxes_only, whole = (recipe_for(recipe, arm, 3) for arm in (none, boxes, structural))
    assert alone.data.unlabelled is None and alone.teacher is None
    assert boxes_only.data == whole.data == recipe.data
    assert boxes_only.distill == [] and boxes_only.teachers[0].distill is None
    assert not boxes.placebo
    require_buildable(recipe, [none, boxes])
    run(boxes_only, tmp_path / "run")
    assert {name.split("/")[0] for name in records(tmp_path / "run", "step")[0]["parts"]} == {"task"}
    assert check(boxes_only).step is not None


def test_an_arm_of_nothing_is_refused(make: Callable[..., Recipe]) -> None:
    content = make("structural", arms={"boxes": []}).model_dump(mode="json")
    content["data"]["unlabelled"] = None
    with pytest.raises((InputError, ValueError), match="arms: boxes: no terms, so nothing to learn from"):
        Recipe.model_validate(content)


def test_check_looks_at_the_images_of_its_batches_alone(make: Callable[..., Recipe], tmp_path: Path) -> None:
    coco_of(tmp_path / "many", SIZES_HW * 10)
    recipe = make("structural", unlabelled={"images": str(tmp_path / "many" / "images"), "per_batch": 1})
    FOUND.clear()
    report = check(recipe)
    assert report.step is not None
    assert sum(FOUND) == 3 + 6  # three batches of one unlabelled image, and the validation images


def test_a_teacher_that_finds_nothing_is_named(make: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"finds nothing on 6 images from its score 0.95 on; lower `score`"):
        run(make(unlabelled={"score": 0.95}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_knows_no_class_of_the_student_cannot_stand_in_for_labels(tmp_path: Path) -> None:
    other = teacher_file(tmp_path / "other", classes=("star", "moon"))
    recipe = unlabelled(tmp_path, "rest", labels=0.5).model_copy(update={"teacher": RunTeacher(run=other)})
    with pytest.raises(InputError, match="need a teacher that finds objects of the student's classes"):
        run(recipe.model_copy(update={"distill": recipe.distill[:1]}), tmp_path / "run")


def unlabelled(folder: Path, images: str, labels: float = 1.0, **more: Any) -> Recipe:
    data = {**FEW, "labels": labels, "unlabelled": {"images": images, "per_batch": 2, "score": 0.05, **more}}
    return distilled(folder, data=data, train={"batch_size": 2})


def test_the_images_that_labels_leave_out_are_used_without_their_labels(tmp_path: Path) -> None:
    assert run(unlabelled(tmp_path, "rest", labels=0.5), tmp_path / "run").steps == 4
    assert "unlabelled: 4 images, 2 a batch, the teacher's boxes from score 0.05 on" in log_of(tmp_path / "run")


def test_a_folder_of_images_without_labels(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures" / "deep"
    pictures.mkdir(parents=True)
    for i in range(3):
        Image.effect_noise((70, 50), 80).convert("RGB").save(pictures / f"{i}.png")
    assert run(unlabelled(tmp_path, str(tmp_path / "pictures")), tmp_path / "run").steps == 8
    assert "unlabelled: 3 images" in log_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"unlabelled": {"images": "rest"}}, "all images are labelled"),
        ({"unlabelled": {"images": "nowhere"}}, "no such folder"),
    ],
)
def test_wrong_unlabelled_images_are_named(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message):
        run(distilled(tmp_path, data={**FEW, **data}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unlabelled_images_need_a_teacher() -> None:
    with pytest.raises((InputError, ValueError), match="needs a teacher that finds the objects"):
        recipe_of(data={**FEW, "unlabelled": {"images": "rest"}, "labels": 0.5})


def test_the_student_alone_leaves_unlabelled_images_aside(tmp_path: Path) -> None:
    recipe = unlabelled(tmp_path, "rest", labels=0.5)
    assert recipe.alone().data.unlabelled is None
    assert run(recipe.alone(), tmp_path / "run").steps == 4


def test_labelled_batches_are_the_same_with_and_without_unlabelled_images() -> None:
    plain = list(EpochSampler(10, batch_size=4, seed=3, epoch=2))
    mixed = list(EpochSampler(10, batch_size=4, seed=3, epoch=2, unlabelled=5, unlabelled_per_batch=3))
    assert [batch[:4] for batch in mixed] == plain
    assert all(len(batch) == 7 and all(i >= 10 for _, i in batch[4:]) for batch in mixed)


def test_every_unlabelled_image_comes_up_equally_often_over_the_epochs_and_ranks() -> None:
    seen = torch.zeros(6, dtype=torch.int64)
    for epoch in range(3):
        for rank in range(2):
            sampler = EpochSampler(
                8, batch_size=2, seed=1, epoch=epoch, rank=rank, world=2, unlabelled=6, unlabelled_per_batch=3
            )
            for batch in sampler:
                for _, i in batch[2:]:
                    seen[i - 8] += 1
    assert seen.tolist() == [6] * 6  # 3 epochs × 2 batches × 2 ranks × 3 images
