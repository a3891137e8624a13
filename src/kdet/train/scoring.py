"""Looks at AP during a run: the validation images over all processes, once each."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdet.data import DetectionDataset, Pipeline, Source, evaluation_batches, make_loader
from kdet.distill import FrozenTeacher
from kdet.errors import InputError
from kdet.evaluate import coco_metrics, predict_loader, write_predictions
from kdet.train.engine import Engine
from kdet.train.recipe import Recipe
from kdet.train.run_folder import CURVES, PREDICTIONS, TEACHER, TEACHER_CURVES, TEACHER_PREDICTIONS, write_json
from kdet.train.run_log import Progress, RunLog
from kdet.types import Detector

KNOWS_NOTHING = 0.05
"""AP below which a teacher's answers are noise."""


def in_own_words(teacher: Detector, class_map: Mapping[str, str]) -> Detector:
    """The teacher with the student's names for its classes, which are those of the data."""
    renamed = copy.copy(teacher)
    renamed.class_names = tuple(class_map.get(name, name) for name in teacher.class_names)
    return renamed


class Scorer:
    """Evaluates student and teacher on the same images in the same way."""

    def __init__(self, recipe: Recipe, folder: Path, engine: Engine, log: RunLog, source: Source) -> None:
        self.folder, self.engine, self.log = folder, engine, log
        self.truth = source.index
        self.precision = recipe.train.precision
        self.class_map = recipe.teacher.class_map if recipe.teacher else {}
        self.data = DetectionDataset(source, Pipeline(recipe.data.image_size))
        batches = evaluation_batches(
            len(self.data), batch_size=recipe.train.batch_size, rank=engine.rank, world=engine.world
        )
        self.loader = make_loader(self.data, batches, workers=recipe.train.workers)

    def student(self, detector: Detector, *, step: int, epoch: int) -> dict[str, Any]:
        """Metrics of the student as it stands; its predictions and curves go to the run folder."""
        metrics = self._score(detector, f"evaluating epoch {epoch}", PREDICTIONS, CURVES)
        self.log.evaluation(step=step, epoch=epoch, metrics=metrics)
        self.log.say(f"{self.folder.name}: epoch {epoch}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
        return metrics

    def teacher(self, teacher: FrozenTeacher | None) -> None:
        """Metrics, predictions and curves of the teacher on the same images, once, before training."""
        if teacher is None:
            return
        if not teacher.detector.predicts:
            self.log.say(f"teacher: {teacher.family} gives features alone, so it has no AP")
            return
        detector = in_own_words(teacher.detector, self.class_map)
        metrics = self._score(detector, "evaluating the teacher", TEACHER_PREDICTIONS, TEACHER_CURVES)
        if self.engine.is_main:
            write_json(self.folder / TEACHER, metrics)
        self.log.say(f"teacher: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f} on the validation images")
        if metrics["AP"] < KNOWS_NOTHING:
            self.log.say(
                "warning: such a teacher knows next to nothing of these data; `kdet check` looks for the reason"
            )

    def _score(self, detector: Detector, label: str, predictions: str, curves: str) -> dict[str, Any]:
        progress = Progress(label, len(self.truth))
        own = predict_loader(
            detector,
            self.loader,
            self.truth.classes,
            device=self.engine.device,
            precision=self.precision,
            progress=lambda count: progress.advance(count * self.engine.world),
        )
        progress.close()
        found = [one for of_rank in self.engine.gather(own) for one in of_rank]
        metrics = coco_metrics(self.truth, found)
        if metrics.ap is None:
            raise InputError("the validation images hold no object, so there is no AP; check `data.val`")
        if self.engine.is_main:
            write_predictions(self.folder / predictions, found, self.truth.classes)
            write_json(self.folder / curves, metrics.curves.as_json())
        return metrics.as_json()
