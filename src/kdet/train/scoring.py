"""Looks at AP during a run: the validation images over all processes, once each."""

from pathlib import Path
from typing import Any

from kdet.data import DetectionDataset, Pipeline, Source, evaluation_batches, make_loader
from kdet.distill import FrozenTeacher
from kdet.errors import InputError
from kdet.evaluate import coco_metrics, predict_loader, write_predictions
from kdet.train.engine import Engine
from kdet.train.recipe import Recipe
from kdet.train.run_folder import CURVES, PREDICTIONS, TEACHER, write_json
from kdet.train.run_log import Progress, RunLog
from kdet.types import Detector


class Scorer:
    """Evaluates student and teacher on the same images in the same way."""

    def __init__(self, recipe: Recipe, folder: Path, engine: Engine, log: RunLog, source: Source) -> None:
        self.folder, self.engine, self.log = folder, engine, log
        self.truth = source.index
        self.precision = recipe.train.precision
        data = DetectionDataset(source, Pipeline(recipe.data.image_size))
        batches = evaluation_batches(
            len(data), batch_size=recipe.train.batch_size, rank=engine.rank, world=engine.world
        )
        self.loader = make_loader(data, batches, workers=recipe.train.workers)

    def student(self, detector: Detector, *, step: int, epoch: int) -> dict[str, Any]:
        """Metrics of the student as it stands; its predictions and curves go to the run folder."""
        metrics = self._score(detector, f"evaluating epoch {epoch}", write=True)
        self.log.evaluation(step=step, epoch=epoch, metrics=metrics)
        self.log.say(f"{self.folder.name}: epoch {epoch}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
        return metrics

    def teacher(self, teacher: FrozenTeacher | None) -> None:
        """Metrics of the teacher on the same images, once, before training."""
        if teacher is None:
            return
        metrics = self._score(teacher.detector, "evaluating the teacher", write=False)
        if self.engine.is_main:
            write_json(self.folder / TEACHER, metrics)
        self.log.say(f"teacher: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f} on the validation images")

    def _score(self, detector: Detector, label: str, *, write: bool) -> dict[str, Any]:
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
        if write and self.engine.is_main:
            write_predictions(self.folder / PREDICTIONS, found, self.truth.classes)
            write_json(self.folder / CURVES, metrics.curves.as_json())
        return metrics.as_json()
