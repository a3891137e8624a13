"""Looks at AP during a run: the validation images over all processes, once each."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdet.data import DetectionDataset, Pipeline, Source, evaluation_batches, make_loader
from kdet.distill import PairedTeacher
from kdet.errors import InputError
from kdet.evaluate import coco_metrics, predict_loader, with_voc_ap, write_predictions
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import Recipe
from kdet.train.state.run_folder import CURVES, PREDICTIONS, TEACHER, TEACHER_CURVES, TEACHER_PREDICTIONS, write_json
from kdet.train.state.run_log import Progress, RunLog
from kdet.types import Canvas, Detector, ImageSize

KNOWS_NOTHING = 0.05
"""AP below which a teacher's answers are noise."""


def in_own_words(teacher: Detector, class_map: Mapping[str, str]) -> Detector:
    """Return the teacher with the student's names for its classes, which are those of the data."""
    renamed = copy.copy(teacher)
    renamed.class_names = tuple(class_map.get(name, name) for name in teacher.class_names)
    return renamed


class Scorer:
    """Evaluates student and teacher on the same images in the same way."""

    def __init__(
        self, recipe: Recipe, folder: Path, engine: Engine, log: RunLog, source: Source, canvas: Canvas
    ) -> None:
        """`canvas`: the student's, which its teachers see as well."""
        self.folder, self.engine, self.log = folder, engine, log
        self.truth = source.index
        self.source, self.settings, self.image_size = source, recipe.train, recipe.data.image_size
        self.canvas: Canvas = canvas
        self.teachers = recipe.teachers

    def student(self, detector: Detector, *, step: int, epoch: int) -> dict[str, Any]:
        """Metrics of the student as it stands; its predictions and curves go to the run folder."""
        metrics = self._score(detector, f"evaluating epoch {epoch}", PREDICTIONS, CURVES, self.image_size)
        self.log.evaluation(step=step, epoch=epoch, metrics=metrics)
        self.log.say(f"{self.folder.name}: epoch {epoch}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
        return metrics

    def teach(self, paired_teachers: Sequence[PairedTeacher]) -> None:
        """Metrics, predictions and curves of each teacher on the same images, once, before training.

        They are those of what it shows to the student, and so of the student's canvas, at the teacher's own size where
        it has one: a teacher of another canvas may do better on its own, but that is nothing to learn from.

        Those of the first are teacher.json, teacher-predictions.json, teacher-curves.json; of the second teacher2….
        Without terms a teacher is there to start from, and is not evaluated.
        """
        for number, (recipe, paired) in enumerate(
            zip(self.teachers, paired_teachers, strict=bool(paired_teachers)), start=1
        ):
            who = "teacher" + (f" {number}" if len(paired_teachers) > 1 else "")
            if not paired.teacher.detector.predicts:
                self.log.say(f"{who}: {paired.teacher.family} gives features alone, so it has no AP")
                continue
            if not paired.pairing.classes.names:
                self.log.say(f"{who}: no class of the data is its own, so it has no AP; its features can teach")
                continue
            detector = in_own_words(paired.teacher.detector, recipe.class_map)
            predictions, curves = (_numbered(name, number) for name in (TEACHER_PREDICTIONS, TEACHER_CURVES))
            size = recipe.image_size or self.image_size
            metrics = self._score(detector, f"evaluating the {who}", predictions, curves, size)
            if self.engine.is_main:
                write_json(self.folder / _numbered(TEACHER, number), metrics)
            self.log.say(f"{who}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f} on the validation images")
            if metrics["AP"] < KNOWS_NOTHING:
                self.log.say(
                    "warning: such a teacher knows next to nothing of these data; `kdet check` looks for the reason"
                )

    def _score(self, detector: Detector, label: str, predictions: str, curves: str, size: ImageSize) -> dict[str, Any]:
        data = DetectionDataset(self.source, Pipeline(size, canvas=self.canvas))
        batches = evaluation_batches(
            len(data), batch_size=self.settings.batch_size, rank=self.engine.rank, world=self.engine.world
        )
        progress = Progress(label, len(self.truth))
        own = predict_loader(
            detector,
            make_loader(data, batches, workers=self.engine.loaders(self.settings.workers)),
            self.truth.classes,
            device=self.engine.device,
            progress=lambda count: progress.advance(count * self.engine.world),
        )
        progress.close()
        found = [one for of_rank in self.engine.gather(own) for one in of_rank]
        metrics = with_voc_ap(coco_metrics(self.truth, found), self.truth, found)
        if metrics.ap is None:
            raise InputError("the validation images hold no object, so there is no AP; check `data.val`")
        if self.engine.is_main:
            write_predictions(self.folder / predictions, found, self.truth.classes)
            write_json(self.folder / curves, metrics.curves.as_json())
        return metrics.as_json()


def _numbered(file: str, number: int) -> str:
    """teacher.json of the first teacher, teacher2.json of the second."""
    return file if number == 1 else file.replace("teacher", f"teacher{number}", 1)
