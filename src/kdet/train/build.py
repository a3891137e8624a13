"""Recipe → objects: data, student, distiller."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from kdet import detectors
from kdet.data import (
    DetectionDataset,
    EpochSampler,
    IndexedSource,
    Pipeline,
    Source,
    image_folder,
    joined,
    open_source,
    rest_of,
    share_of,
    split_off,
    without_labels,
)
from kdet.distill import METHODS, Distiller, FrozenTeacher
from kdet.errors import InputError
from kdet.ops.canvas import described
from kdet.train.keepable import require_keepable
from kdet.train.models import Say, build_detector
from kdet.train.recipe import Recipe
from kdet.train.recipe_data import FileData, ShapesData
from kdet.train.recipe_models import StudentRecipe, TermRecipe
from kdet.train.teachers import build_lessons, build_teacher
from kdet.types import Detector

_LIBRARIES = ("torchvision", "transformers", "libreyolo", "ultralytics", "kdet")


def open_data(recipe: Recipe, say: Say) -> tuple[Source, Source]:
    """Training and validation source; what the readers mended, and what is left aside, is said.

    Raises:
        InputError: missing, empty or malformed data.
    """
    data = recipe.data
    train = _open(data, "train", say)
    if data.hold_out is None:
        val = _open(data, "val", say)
    else:
        if len(train.index) < 2:
            raise InputError("data.hold_out: one training image cannot be divided; leave `hold_out` out")
        train, val = split_off(train, data.hold_out)
        say(f"validation on {len(val.index)} training images that are held out; `val` is not looked at")
    labelled = share_of(train, data.labels)
    if labelled is not train:
        say(f"training on {len(labelled.index)} of {len(train.index)} images (labels: {data.labels:g})")
    return labelled, val


def open_unlabelled(recipe: Recipe, say: Say) -> Source | None:
    """The images of `data.unlabelled`.

    Raises:
        InputError: no such folder, or no image in it.
    """
    data = recipe.data
    if data.unlabelled is None:
        return None
    if data.unlabelled.images == "rest":
        train = _open(data, "train", lambda line: None)
        source = without_labels(
            rest_of(train if data.hold_out is None else split_off(train, data.hold_out)[0], data.labels)
        )
    else:
        source = image_folder(Path(data.unlabelled.images))
    shown = f"{data.unlabelled.per_batch} a batch, the teacher's boxes from score {data.unlabelled.score:g} on"
    say(f"unlabelled: {len(source.index)} images, {shown}")
    return source


def training_data(
    recipe: Recipe, train: Source, distiller: Distiller, say: Say, *, rank: int = 0, world: int = 1
) -> tuple[DetectionDataset, EpochSampler]:
    """The augmented images and their order.

    Args:
        recipe: its data and training settings are read.
        train: the labelled images, labels of the data.
        distiller: whose student's columns the labels become, and whose teacher may see larger images.
        say: receives what the user should know.
        rank: of this process.
        world: number of processes.

    Raises:
        InputError: no images, or an augmentation under which a teacher's answers cannot be kept.
    """
    settings = recipe.train
    labelled = relabelled(train, distiller.student.class_names)
    count = len(labelled.index)
    unlabelled = open_unlabelled(recipe, say)
    source = labelled if unlabelled is None else joined(labelled, unlabelled)
    pipeline = Pipeline(
        recipe.data.image_size,
        recipe.data.augment,
        canvas=distiller.student.canvas,
        teacher_scale=distiller.teacher_scale,
    )
    require_keepable(recipe, distiller, pipeline)
    sampler = EpochSampler(
        count,
        batch_size=settings.batch_size,
        seed=settings.seed,
        rank=rank,
        world=world,
        unlabelled=len(source.index) - count,
        unlabelled_per_batch=recipe.data.unlabelled.per_batch if recipe.data.unlabelled else 0,
    )
    return DetectionDataset(source, pipeline, seed=settings.seed, num_labelled=count), sampler


def _open(data: FileData | ShapesData, split: Literal["train", "val"], say: Say) -> Source:
    if isinstance(data, ShapesData):
        return open_source("shapes", split=split, shapes=data.shapes())
    path = data.train if split == "train" else data.val
    source = open_source(data.format, path, split=split, images=data.images, on_bad_box=data.on_bad_box)
    for note in source.index.notes:
        say(note)
    return source


def relabelled(source: Source, class_names: Sequence[str]) -> Source:
    """The source with labels that are columns of a model's class list."""
    return IndexedSource(source.index.relabelled(class_names), source)


def build_student(recipe: Recipe, classes: Sequence[str], say: Say) -> Detector:
    """The detector of `student:` for the classes of the data, on the recipe's canvas."""
    model, size, canvas = recipe.student, recipe.data.image_size, recipe.data.canvas
    student = build_detector(model, classes, size, say, canvas=canvas)
    say(f"canvas: {described(size, student.canvas)}, {_whose(student) if canvas == 'auto' else 'as the recipe says'}")
    weights = model.weights or model.backbone_weights
    if weights and model.detector in detectors.BARE and None in (model.norm, model.trainable_layers):
        own = student.build_arguments or {}
        say(f"{weights}: norm {own['norm']}, trainable_layers {own['trainable_layers']}, as its library has it")
    return student


def _whose(student: Detector) -> str:
    """Where a student's own canvas comes from."""
    kind = type(student.model)
    library = kind.__module__.split(".")[0]
    if library not in _LIBRARIES:
        return "as it was wrapped"
    return f"as the {kind.__name__} of {library} has it"


def build_distiller(recipe: Recipe, student: Detector, classes: Sequence[str], say: Say) -> Distiller:
    """The module to train: the student with the recipe's teachers and terms, or alone.

    Raises:
        InputError: no teacher file, wrong class maps, unknown methods, or terms that a pair cannot serve.
    """
    lessons = [] if recipe.only_starts_from_teacher else build_lessons(recipe, classes, say)
    if recipe.student.inherit:
        first = lessons[0].teacher if lessons else build_teacher(recipe, recipe.teachers[0], classes, say)
        assert isinstance(first, FrozenTeacher)
        for line in detectors.inherit(student, first.detector, recipe.student.inherit).describe():
            say(line)
        settled = recipe.student.inherit != "all" or recipe.student.norm is not None
        if not settled and detectors.inherit_frozen_norms(student, first.detector):
            say("the norms of the backbone are frozen, as the teacher's were")
    if recipe.teachers and not lessons:
        say("no `distill:` terms: nothing else is learned from the teacher")
    distiller = Distiller(student, lessons=lessons)
    if recipe.data.unlabelled is not None:
        distiller.pseudo_score = recipe.data.unlabelled.score
    for number, lesson in enumerate(distiller.lessons, start=1):
        own, name = lesson.teacher.detector, "teacher" if len(distiller.lessons) == 1 else f"teacher {number}"
        if own.predicts and own.canvas != student.canvas:
            say(
                f"{name}: its own canvas is {own.canvas}, but it sees the student's pixels ({student.canvas}), and its "
                "AP in this run is the one on these; `kdet evaluate` gives the one on its own"
            )
        if len(distiller.lessons) > 1:
            say(f"teacher {number}: {', '.join(term.name for term in lesson.terms)}")
        for line in lesson.describe():
            say(line)
    return distiller


def resolved(recipe: Recipe) -> Recipe:
    """The recipe as it is recorded: defaults of methods and backbone spelt out, a published weight as a number."""
    changes: dict[str, Any] = {"distill": [_spelt_out(term) for term in recipe.distill]}
    changes["student"] = _with_defaults(recipe.student)
    own = [
        teacher.model_copy(update={"distill": [_spelt_out(term) for term in teacher.distill]})
        if teacher.distill is not None
        else teacher
        for teacher in recipe.teachers
    ]
    if own:
        changes["teacher"] = own if isinstance(recipe.teacher, list) else own[0]
    return recipe.model_copy(update=changes)


def _spelt_out(term: TermRecipe) -> TermRecipe:
    method = METHODS[term.method]
    parameters = inspect.signature(method.terms).parameters
    options: dict[str, Any] = {name: parameter.default for name, parameter in parameters.items()}
    options |= term.model_dump(exclude={"weight"} if term.weight is None else None)
    if term.weight == "published":
        options["weight"] = method.published
    return TermRecipe(**options)


def _with_defaults(student: StudentRecipe) -> StudentRecipe:
    if student.detector not in detectors.BARE or student.inherit == "all":  # whose norm is the teacher's
        return student
    given = student.weights, student.backbone_weights, student.norm, student.trainable_layers
    norm, layers = detectors.backbone_defaults(student.detector, *given)
    return student.model_copy(update={"norm": norm, "trainable_layers": layers})
