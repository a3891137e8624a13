"""Recipe → detectors: the student, and the distiller with its teachers and terms."""

import inspect
from collections.abc import Sequence
from typing import Any

from kdet import detectors
from kdet.data import (
    Source,
)
from kdet.distill import METHODS, Distiller, FrozenTeacher
from kdet.ops.canvas import described
from kdet.train.models import Say, build_detector
from kdet.train.recipe.data import FileData
from kdet.train.recipe.models import StudentRecipe, TermRecipe
from kdet.train.recipe.schema import Recipe
from kdet.train.teaching.teachers import build_teacher, build_teachers
from kdet.types import Detector

_LIBRARIES = ("torchvision", "transformers", "libreyolo", "ultralytics", "kdet")


def build_student(recipe: Recipe, classes: Sequence[str], say: Say) -> Detector:
    """Build the detector of `student:` for the classes of the data, on the recipe's canvas."""
    model, size, canvas = recipe.student, recipe.data.image_size, recipe.data.canvas
    student = build_detector(model, classes, size, say, canvas=canvas)
    say(f"canvas: {described(size, student.canvas)}, {_whose(student) if canvas == 'auto' else 'as the recipe says'}")
    weights = model.weights or model.backbone_weights
    if weights and model.detector in detectors.BARE and None in (model.norm, model.trainable_layers):
        own = student.build_arguments or {}
        say(f"{weights}: norm {own['norm']}, trainable_layers {own['trainable_layers']}, as its library has it")
    return student


def _whose(student: Detector) -> str:
    """Say where a student's own canvas comes from."""
    kind = type(student.model)
    library = kind.__module__.split(".")[0]
    if library not in _LIBRARIES:
        return "as it was wrapped"
    return f"as the {kind.__name__} of {library} has it"


def build_distiller(recipe: Recipe, student: Detector, classes: Sequence[str], say: Say) -> Distiller:
    """Build the module to train: the student with the recipe's teachers and terms, or alone.

    Raises:
        InputError: no teacher file, wrong class maps, unknown methods, or terms that a pair cannot serve.
    """
    teachers = [] if recipe.only_starts_from_teacher else build_teachers(recipe, classes, say)
    if recipe.student.inherit:
        first = teachers[0].teacher if teachers else build_teacher(recipe, recipe.teachers[0], classes, say)
        assert isinstance(first, FrozenTeacher)
        for line in detectors.inherit(student, first.detector, recipe.student.inherit).describe():
            say(line)
        settled = recipe.student.inherit != "all" or recipe.student.norm is not None
        if not settled and detectors.inherit_frozen_norms(student, first.detector):
            say("the norms of the backbone are frozen, as the teacher's were")
    if recipe.teachers and not teachers:
        say("no `distill:` terms: nothing else is learned from the teacher")
    distiller = Distiller(student, teachers=teachers)
    for number, paired in enumerate(distiller.paired_teachers, start=1):
        own, name = paired.teacher.detector, "teacher" if len(distiller.paired_teachers) == 1 else f"teacher {number}"
        if own.predicts and own.canvas != student.canvas:
            say(
                f"{name}: its own canvas is {own.canvas}, but it sees the student's pixels ({student.canvas}), and its "
                "AP in this run is the one on these; `kdet evaluate` gives the one on its own"
            )
        if len(distiller.paired_teachers) > 1:
            say(f"teacher {number}: {', '.join(term.name for term in paired.terms)}")
        for line in paired.describe():
            say(line)
    return distiller


def resolved(recipe: Recipe, train: Source | None = None) -> Recipe:
    """Return the recipe as it is recorded: defaults of methods and backbone spelt out, a published weight as a number.

    Args:
        recipe: as read.
        train: its training images, where what their files turned out to count pixels from is recorded, too.
    """
    changes: dict[str, Any] = {"distill": [_spelt_out(term) for term in recipe.distill]}
    changes["student"] = _with_defaults(recipe.student)
    if train is not None and isinstance(recipe.data, FileData) and train.index.first_pixel is not None:
        changes["data"] = recipe.data.model_copy(update={"first_pixel": train.index.first_pixel})
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
