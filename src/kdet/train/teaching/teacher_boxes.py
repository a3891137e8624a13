"""The boxes of images that nobody has labelled: what the teacher finds there, looked for once, before training."""

import time
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdet.data import (
    DetectionDataset,
    Joined,
    Objects,
    Pipeline,
    Source,
    joined,
    make_loader,
    taken,
    with_objects,
)
from kdet.distill import Distiller
from kdet.distill.cache.tensor_folder import TensorFolder
from kdet.errors import InputError
from kdet.evaluate import ImagePredictions, predict_loader
from kdet.evaluate.coco_tables import check_predictions
from kdet.train.models import Say
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import Recipe
from kdet.train.scoring import in_own_words
from kdet.train.state.run_log import Progress
from kdet.train.teaching.teacher_cache import about_teacher
from kdet.train.teaching.thresholds import choose_thresholds

_CACHE = "detections"
"""Folder in a teacher's `cache:`."""
_PLAIN = 0.5
"""Score in place of `score: auto` where nothing is trained."""


def put_teacher_boxes(
    recipe: Recipe,
    distiller: Distiller,
    data: DetectionDataset,
    engine: Engine,
    say: Say,
    *,
    only: Collection[int] | None = None,
) -> dict[str, Any] | None:
    """Give the unlabelled images of a training set the boxes of the first teacher that finds any; changes `data`.

    The teacher sees each image whole and as it is, the student sees it augmented and its boxes with it, as in "Unbiased
    Teacher for Semi-Supervised Object Detection" (Liu et al., ICLR 2021, https://arxiv.org/abs/2102.09480) and
    "End-to-End Semi-Supervised Object Detection with Soft Teacher" (Xu et al., ICCV 2021,
    https://arxiv.org/abs/2106.09018). Their teacher is the student's moving average; this one stays as it is, so that
    its boxes need not be found anew in each step.

    Args:
        recipe: of the data set and the teachers.
        distiller: on the engine's device.
        data: as `training_data` makes it; nobody has read of it yet.
        engine: device and processes.
        say: receives what was found.
        only: positions in `data`; None = all unlabelled images. With it `score: auto` is 0.5, and no cache is used.

    Returns:
        What was found, for people and scripts; None where no image waits for boxes.

    Raises:
        InputError: no teacher finds objects of the student's classes, or it finds none on these images.
        WorkError: a box or a score is not finite.
    """
    own, whole = recipe.data.unlabelled, data.source
    if own is None or own.has_boxes:
        return None
    assert isinstance(whole, Joined)
    started, first = time.perf_counter(), len(whole.labelled.index)
    finder = _Finder(recipe, distiller, data, engine, keep=only is None)
    rows = [row for row in range(first, len(whole.index)) if only is None or row in only]
    by_row = dict(zip(rows, finder.on(taken(whole, np.array(rows, np.int64))), strict=True))
    classes = whole.index.classes
    least = np.full(len(classes), _PLAIN if own.score == "auto" else own.score)
    record: dict[str, Any] = {"images": len(rows), "score": own.score}
    if own.score == "auto" and only is None:
        found = choose_thresholds(recipe, finder.recipe, whole.labelled, finder.on, say)
        least = np.array([found[name].score if name in found else 1.0 for name in classes])
        record["score"] = {name: asdict(one) for name, one in found.items()}
    rows_of_all = range(first, len(whole.index))
    objects = [objects_of(by_row.get(row, _NOTHING), least) for row in rows_of_all]
    source = with_objects(whole.unlabelled, classes, objects)
    index = source.index
    if only is None and not len(index.labels):
        raise InputError(
            f"data: unlabelled: the teacher finds nothing on {len(rows)} images from its score {own.score} on; lower "
            "`score`, or see what it finds with `kdet predict`"
        )
    data.source = joined(whole.labelled, source)
    with_boxes = int((np.diff(index.offsets) > 0).sum())
    counts = {name: count for name, count in index.class_counts().items() if count}
    seconds = time.perf_counter() - started
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    say(f"unlabelled: the teacher's boxes on {with_boxes} of {len(rows)} images: {shown}; {seconds:.0f} s, once")
    return record | {"with_boxes": with_boxes, "boxes": counts, "seconds": round(seconds, 1)}


class _Finder:
    """The first teacher that finds objects, at its own size, in the words of the student."""

    def __init__(
        self, recipe: Recipe, distiller: Distiller, data: DetectionDataset, engine: Engine, *, keep: bool
    ) -> None:
        place = next((i for i, paired in enumerate(distiller.paired_teachers) if paired.finds_objects), None)
        if place is None:
            raise InputError(
                "images without labels need a teacher that finds objects of the student's classes; name one, or leave "
                "`unlabelled` out"
            )
        paired, self.recipe = distiller.paired_teachers[place], recipe.teachers[place]
        self.detector = in_own_words(paired.teacher.detector, self.recipe.class_map)
        self.classes = data.source.index.classes
        self.pipeline = Pipeline(self.recipe.image_size or data.pipeline.image_size, canvas=data.pipeline.canvas)
        self.engine, self.workers = engine, engine.loaders(recipe.train.workers)
        self.kept: TensorFolder | None = None
        if keep and self.recipe.cache is not None:
            about = about_teacher(paired, data) | {
                "classes": [self.detector.class_names, self.classes],
                "selection": repr(getattr(self.detector, "selection", None)),
            }
            self.kept = TensorFolder(self.recipe.cache / _CACHE, about)

    def on(self, source: Source) -> list[ImagePredictions]:
        """What it finds on all images of a source, each by itself so that none pads another; over all processes."""
        data, ids = DetectionDataset(source, self.pipeline), source.index.image_ids.tolist()
        own = ids[self.engine.rank :: self.engine.world]
        known = {image_id: one for image_id in own if (one := self._known(image_id)) is not None}
        missing = [[(0, i)] for i, image_id in enumerate(ids) if image_id in own and image_id not in known]
        progress = Progress("the teacher's boxes", len(missing))
        for batch in make_loader(data, missing, workers=self.workers if missing else 0):
            one = predict_loader(self.detector, [batch], self.classes, device=self.engine.device)[0]
            known[one.image_id] = one
            self._keep(one)
            progress.advance(1)
        progress.close()
        found = {one.image_id: one for of_rank in self.engine.gather(list(known.values())) for one in of_rank}
        check_predictions(source.index, list(found.values()))
        return [found[image_id] for image_id in ids]

    def _known(self, image_id: int) -> ImagePredictions | None:
        found = None if self.kept is None else self.kept.load(str(image_id))
        if found is None:
            return None
        columns = {key: value.numpy() for key, value in found[0].items()}
        return ImagePredictions(image_id=image_id, **columns)  # pyright: ignore[reportArgumentType]

    def _keep(self, one: ImagePredictions) -> None:
        if self.kept is not None:
            columns = {"boxes_xyxy": one.boxes_xyxy, "scores": one.scores, "labels": one.labels}
            self.kept.save(str(one.image_id), {key: torch.from_numpy(value) for key, value in columns.items()}, None)


def objects_of(found: ImagePredictions, least: NDArray[np.float64]) -> Objects:
    """Return those detections whose score is at least their class'."""
    kept = found.scores >= least[found.labels]
    boxes = found.boxes_xyxy[kept]
    return Objects(
        boxes_xyxy=boxes,
        labels=found.labels[kept],
        crowd=np.zeros(len(boxes), np.bool_),
        areas=np.zeros(len(boxes), np.float32),
        scores=found.scores[kept],
    )


_NOTHING = ImagePredictions(
    image_id=-1,
    boxes_xyxy=np.zeros((0, 4), np.float32),
    scores=np.zeros(0, np.float32),
    labels=np.zeros(0, np.int64),
)
