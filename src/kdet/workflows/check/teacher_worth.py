"""Whether a teacher is worth learning from: are its weights its file's, and is it better than its student?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdet.data import DetectionDataset, Pipeline, Source, make_loader
from kdet.detectors.weights import CLASS_LAYERS, StoredWeights, download, is_file, library_weights, read_weights
from kdet.distill import Distiller, PairedTeacher
from kdet.errors import InputError
from kdet.evaluate import coco_metrics, predict_loader
from kdet.train.processes.engine import Engine
from kdet.train.recipe.models import FoundationTeacher, OneTeacher, RunTeacher
from kdet.train.recipe.schema import Recipe
from kdet.train.scoring import KNOWS_NOTHING, in_own_words
from kdet.train.state.run_folder import BEST
from kdet.train.state.run_log import Progress
from kdet.types import Canvas, Detector, ImageSize
from kdet.workflows.check.problems import Problem

SAMPLE = 200
"""Validation images at most; the choice follows from the recipe's seed."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Teacher and student on the same validation images, as they stand."""

    images: int
    teacher: dict[str, Any] | None
    """COCO metrics; None where it gives features alone, or no class of the data is its own."""
    student: dict[str, Any]
    not_loaded: list[str]
    """The teacher's tensors that are not those of its file: they stayed as they were built."""
    tensors: int
    origin: str | None
    """Origin of its weights; None = they are random."""


def weigh(recipe: Recipe, distiller: Distiller, source: Source, engine: Engine) -> list[Worth]:
    """Evaluate student and teachers on a sample of the validation images, and compare the teachers with their files.

    Raises:
        InputError: no sampled image holds an object.
    """
    rows = sampled(len(source.index), recipe.train.seed)
    canvas = distiller.student.canvas
    on_sample = partial(score, source=source, rows=rows, recipe=recipe, engine=engine, canvas=canvas)
    student = on_sample(distiller.student, "student", image_size=recipe.data.image_size)
    found: list[Worth] = []
    for own, paired in zip(recipe.teachers, distiller.paired_teachers, strict=True):
        stored = stored_weights(own)
        detector = in_own_words(paired.teacher.detector, own.class_map)
        known, size = paired.finds_objects, own.image_size or recipe.data.image_size
        origin = own.origin if stored is None and not isinstance(own, RunTeacher) else stored and stored.origin
        found.append(
            Worth(
                images=len(rows),
                teacher=on_sample(detector, "teacher", image_size=size) if known else None,
                student=student,
                not_loaded=[] if stored is None else not_loaded(paired.teacher.detector, stored),
                tensors=len(paired.teacher.model.state_dict()),
                origin=origin,
            )
        )
    return found


def stored_weights(teacher: OneTeacher) -> StoredWeights | None:
    """Return what a recipe's teacher is to be loaded from; None = random weights, or all of it loads or it is refused.

    Raises:
        InputError: no such weights.
    """
    if isinstance(teacher, RunTeacher):
        return read_weights(teacher.run / BEST if teacher.run.is_dir() else teacher.run)
    if isinstance(teacher, FoundationTeacher) or teacher.weights is None:
        return None
    if teacher.detector == "hf" and not teacher.weights.endswith(".safetensors"):
        return None  # a folder or the hub: a tensor that is missing there was an error when it was loaded
    if is_file(teacher.weights):
        return read_weights(Path(teacher.weights))
    return StoredWeights(origin=teacher.weights, state=download(library_weights(teacher.weights)))


def not_loaded(teacher: Detector, stored: StoredWeights) -> list[str]:
    """Return the names of the teacher's tensors that its file has otherwise or not at all."""
    found: list[str] = []
    for name, tensor in teacher.native_state().items():
        if name.endswith("num_batches_tracked"):
            continue
        theirs = stored.state.get(name)
        own = tensor.detach().cpu()
        if theirs is None or theirs.shape != own.shape or not torch.equal(own, theirs.to(own.dtype)):
            found.append(name)
    return found


def doubts(worth: Worth, paired: PairedTeacher) -> Iterator[Problem]:
    """Why one should not learn from this teacher."""
    terms = [term for term in paired.terms if not term.placebo]
    if not terms:
        return
    if worth.origin is None:
        yield Problem(
            "teacher",
            "failed",
            "the teacher has random weights and knows nothing; give `teacher: {run: …}` or `weights:`",
        )
    elif worth.not_loaded:
        yield _partly_loaded(worth, any(term.reads_class_scores for term in terms))
    if worth.teacher is None:
        return
    teacher, student = worth.teacher["AP"], worth.student["AP"]
    if teacher < KNOWS_NOTHING:
        yield Problem(
            "teacher",
            "warning",
            f"the teacher's AP on your validation images is {teacher:.3f}: it knows next to nothing of these data. "
            "Did its weights load, are its classes in the file's order, was it trained on such images and sizes?",
        )
    if teacher <= student:
        yield Problem(
            "teacher",
            "warning",
            f"the teacher (AP {teacher:.3f}) is not better than the student as it stands (AP {student:.3f}) on your "
            "validation images; train the teacher longer, or take a larger one",
        )


def _partly_loaded(worth: Worth, classes_are_read: bool) -> Problem:
    only_classes = all(name.startswith(CLASS_LAYERS) for name in worth.not_loaded)
    harmless = only_classes and not classes_are_read
    where = "its class layer" if only_classes else "more than its class layer"
    mend = (
        "no term reads its class scores, so features can be learned all the same; its AP means nothing"
        if harmless
        else "name the file's own classes, in its order, under `teacher: {classes: […]}`, or give another file"
    )
    names = ", ".join(worth.not_loaded[:2]) + (", …" if len(worth.not_loaded) > 2 else "")
    text = (
        f"{len(worth.not_loaded)} of the teacher's {worth.tensors} tensors did not load from {worth.origin} ({where}: "
        f"{names}) and are random; {mend}"
    )
    return Problem("teacher", "warning" if harmless else "failed", text)


def sampled(images: int, seed: int, *, most: int = SAMPLE) -> list[int]:
    """Return the rows of a set of images, each at most once, in order."""
    chosen = np.random.default_rng(seed).permutation(images)[:most]
    return sorted(int(row) for row in chosen)


def score(
    detector: Detector,
    name: str,
    *,
    source: Source,
    rows: list[int],
    recipe: Recipe,
    engine: Engine,
    image_size: ImageSize,
    canvas: Canvas,
) -> dict[str, Any]:
    """Compute COCO metrics of a detector on these rows of a source, seen on a canvas.

    Raises:
        InputError: none of the images holds an object.
    """
    data = DetectionDataset(source, Pipeline(image_size, canvas=canvas))
    size = recipe.train.batch_size
    batches = [[(0, row) for row in rows[first : first + size]] for first in range(0, len(rows), size)]
    truth = source.index.subset(rows)
    progress = Progress(f"evaluating the {name}", len(rows))
    found = predict_loader(
        detector,
        make_loader(data, batches, workers=engine.loaders(recipe.train.workers)),
        truth.classes,
        device=engine.device,
        progress=progress.advance,
    )
    progress.close()
    metrics = coco_metrics(truth, found)
    if metrics.ap is None:
        raise InputError("the validation images hold no object, so there is no AP; check `data.val`")
    return metrics.as_json()
