"""Boxes with a model's scores: read and written, kept through every change of an index, and drawn epoch by epoch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_cases import annotation, assert_same

from kdet.data import (
    DetectionDataset,
    IndexedSource,
    Objects,
    Pipeline,
    Shapes,
    ShapesSource,
    convert,
    joined,
    open_source,
    share_of,
    with_objects,
    without_labels,
)
from kdet.data.formats.coco import reader as coco
from kdet.data.formats.yolo import reader as yolo
from kdet.data.index import DetectionIndex
from kdet.errors import InputError

Make = Callable[..., Path]


def scored(source: ShapesSource) -> IndexedSource:
    """The shapes, each box with a score of its own."""
    count = len(source.index.labels)
    scores = np.random.default_rng(0).random(count).astype(np.float32)
    return IndexedSource(replace(source.index, scores=scores), source)


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_scores_are_written_and_read_back_to_the_bit(shapes: ShapesSource, tmp_path: Path, name: str):
    source = scored(shapes)
    assert convert({"train": source}, name, tmp_path / name) == ()
    again = open_source(name, tmp_path / name, classes=source.index.classes)
    assert_same(source.index, again.index, exact=name == "coco")
    np.testing.assert_array_equal(again.index.scores, source.index.scores)


def test_voc_says_that_it_has_no_scores(shapes: ShapesSource, tmp_path: Path):
    notes = convert({"train": scored(shapes)}, "voc", tmp_path / "voc")
    assert "the scores of the boxes left out; voc has none" in [note.split(": ", 1)[1] for note in notes]


def test_where_nobody_says_a_score_there_are_none(coco_file: Make, shapes: ShapesSource, tmp_path: Path):
    assert coco.read(coco_file()).scores is None
    coco.write(shapes.index, tmp_path / "coco")
    assert '"score"' not in (tmp_path / "coco" / "annotations_train.json").read_text()
    yolo.write(shapes.index, tmp_path / "yolo")
    assert not (tmp_path / "yolo" / "scores").exists()


@pytest.mark.parametrize("indent", [None, 1])
def test_a_box_without_a_score_among_others_is_a_persons(coco_file: Make, indent: int | None):
    file = coco_file(annotations=[annotation(1, score=0.25), annotation(2), annotation(3, score=None)])
    file.write_text(json.dumps(json.loads(file.read_text()), indent=indent))
    assert coco.read(file).scores.tolist() == [0.25, 1.0, 1.0]  # type: ignore[union-attr]


@pytest.mark.parametrize("score", [-0.1, 1.5, 95, float("inf")])
def test_a_score_beyond_its_range_is_named(coco_file: Make, score: float):
    with pytest.raises(InputError, match=r"annotation 7 \(image 'a.png'\): score .* is not in 0…1"):
        coco.read(coco_file(annotations=[annotation(7, score=score)]))


@pytest.mark.parametrize("score", ["high", [0.5], {}])
def test_a_score_that_is_no_number_is_named(coco_file: Make, score: object):
    with pytest.raises(InputError, match=r"annotation 7 needs a number in 0…1 for score"):
        coco.read(coco_file(annotations=[annotation(7, score=score)]))


@pytest.mark.parametrize(
    ("text", "message"), [("0.5 0.5 0.5 0.5 0.5 0.5", "6 scores of"), ("half", "one score a line")]
)
def test_scores_that_are_not_those_of_the_boxes(shapes: ShapesSource, tmp_path: Path, text: str, message: str):
    convert({"train": scored(shapes)}, "yolo", tmp_path / "yolo")
    first = sorted((tmp_path / "yolo" / "scores" / "train").iterdir())[0]
    first.write_text(text)
    with pytest.raises(InputError, match=message):
        open_source("yolo", tmp_path / "yolo")


def per_image(index: DetectionIndex) -> list[tuple[list[list[float]], list[int], list[float]]]:
    own = [index.objects(i) for i in range(len(index))]
    return [
        (o.boxes_xyxy.tolist(), o.labels.tolist(), [] if o.scores is None else [round(float(s), 4) for s in o.scores])
        for o in own
    ]


def test_every_change_of_an_index_keeps_each_boxs_score(shapes: ShapesSource):
    index = scored(shapes).index
    whole = per_image(index)
    assert per_image(index.subset([5, 2])) == [whole[5], whole[2]]
    assert per_image(share_of(scored(shapes), 0.5).index) == [
        whole[i] for i in range(12) if index.image_ids[i] in share_of(shapes, 0.5).index.image_ids
    ]
    kept = index.only_boxes(index.scores > 0.5)  # type: ignore[operator]
    for (boxes, labels, scores), (own_boxes, own_labels, own_scores) in zip(whole, per_image(kept), strict=True):
        chosen = [k for k, score in enumerate(scores) if score > 0.5]
        assert own_boxes == [boxes[k] for k in chosen]
        assert own_labels == [labels[k] for k in chosen]
        assert own_scores == [scores[k] for k in chosen]


def test_a_models_boxes_stand_behind_those_of_people(shapes: ShapesSource):
    others = ShapesSource(shapes.shapes, split="val")
    found = [
        Objects(
            boxes_xyxy=np.array([[-3, 4, 20, 200], [60, 1, 70, 9]], np.float32),  # the second lies beyond the image
            labels=np.array([2, 1]),
            crowd=np.zeros(2, bool),
            areas=np.zeros(2, np.float32),
            scores=np.array([0.7, 0.9], np.float32),
        )
    ] * len(others.index)
    source = joined(shapes, with_objects(without_labels(others), shapes.index.classes, found))
    first = len(shapes.index)
    rows = per_image(source.index)
    assert [row[:2] for row in rows[:first]] == [row[:2] for row in per_image(shapes.index)]
    assert all(set(scores) <= {1.0} for _, _, scores in rows[:first])
    assert rows[first:] == [([[0, 4, 20, 48]], [2], [0.7])] * len(others.index)
    assert source.index.areas[-1] == 20 * 44
    assert torch.equal(source.read(first + 1), others.read(1))


def test_a_box_stands_in_as_many_epochs_as_its_score_says():
    shapes = ShapesSource(Shapes(images=4, val_images=1, image_size=32, objects=(3, 3), scale=(0.3, 0.4), clutter=0))
    count = len(shapes.index.labels)
    scores = np.linspace(0, 1, count).astype(np.float32)
    source = IndexedSource(replace(shapes.index, scores=scores), shapes)
    data = DetectionDataset(source, Pipeline(32), seed=1, soft_targets=True)
    epochs, seen = 400, np.zeros(count)
    for i in range(4):
        whole = data.target(i)["boxes"]
        for epoch in range(epochs):
            boxes = data[epoch, i].target["boxes"]
            seen[3 * i : 3 * i + 3] += (whole[:, None] == boxes[None]).all(-1).any(1).numpy()
    assert seen[0] == 0 and seen[-1] == epochs
    spread = np.sqrt(scores * (1 - scores) / epochs)
    assert (np.abs(seen / epochs - scores) <= 4 * spread).all()


def test_draws_depend_on_seed_epoch_and_image_alone_and_move_nothing_else(shapes: ShapesSource):
    source = scored(shapes)
    hard = DetectionDataset(source, Pipeline(48), seed=3)
    soft = DetectionDataset(source, Pipeline(48), seed=3, soft_targets=True)
    drawn = [len(soft[1, i].target["boxes"]) for i in range(12)]
    assert drawn == [len(soft[1, i].target["boxes"]) for i in reversed(range(12))][::-1]
    assert drawn != [len(soft[2, i].target["boxes"]) for i in range(12)]
    assert [len(hard[1, i].target["boxes"]) for i in range(12)] == [
        len(shapes.index.objects(i).labels) for i in range(12)
    ]
    unscored = DetectionDataset(shapes, Pipeline(48), seed=3, soft_targets=True)
    assert torch.equal(unscored[1, 5].target["boxes"], hard[1, 5].target["boxes"])
    assert torch.equal(soft[1, 5].image, hard[1, 5].image)
