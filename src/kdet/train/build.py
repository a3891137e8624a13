"""Recipe → objects; the only reader of the recipe's data, student, teacher and distill."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, validate_call

from kdet import detectors
from kdet.data import IndexedSource, Source, open_source, share_of, split_off
from kdet.data.resize import ImageSize
from kdet.detectors import classes_in, read_weights, rebuild
from kdet.distill import METHODS, Distiller, FrozenTeacher, Schedule, Term
from kdet.errors import InputError
from kdet.train.recipe import FileData, ModelRecipe, Recipe, RunTeacher, ShapesData, TermRecipe
from kdet.train.recipe_file import nearest
from kdet.train.run_folder import BEST, RECIPE
from kdet.types import Detector

Say = Callable[[str], None]


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


def image_size(recipe: Recipe) -> ImageSize:
    """The network's input size."""
    return recipe.data.image_size


def build_student(recipe: Recipe, classes: Sequence[str], say: Say) -> Detector:
    """The detector of `student:` for the classes of the data."""
    return _build(recipe.student, classes, image_size(recipe), say)


def build_distiller(recipe: Recipe, student: Detector, classes: Sequence[str], say: Say) -> Distiller:
    """The module to train: the student with the recipe's teacher and terms, or alone.

    Raises:
        InputError: no teacher file, other classes, unknown methods, or terms that the pair cannot serve.
    """
    if recipe.teacher is None:
        return Distiller(student)
    terms = make_terms(recipe.distill)
    if not terms:
        raise InputError(
            "the recipe names a teacher and no `distill:` terms; add e.g. `distill: [{method: structural}]`"
        )
    if isinstance(recipe.teacher, RunTeacher):
        teacher = load_detector(recipe.teacher.run)
    else:
        weights = recipe.teacher.weights
        theirs = None if weights is None else classes_in(weights, recipe.teacher.detector)
        names = recipe.teacher.classes or theirs or classes
        teacher = _build(recipe.teacher, names, image_size(recipe), say)
        if recipe.teacher.weights is None:
            say("teacher: random weights; it knows nothing. Give `teacher: {run: …}` or `weights:`")
    if recipe.student.inherit:
        for line in detectors.inherit(student, teacher, recipe.student.inherit).describe():
            say(line)
    distiller = Distiller(student, FrozenTeacher(teacher), terms, class_map=recipe.teacher.class_map)
    assert distiller.pairing is not None
    for line in distiller.pairing.describe():
        say(line)
    return distiller


def load_detector(path: Path) -> Detector:
    """The student of a run folder (its best epoch) or of a weights file that kdet wrote.

    Raises:
        InputError: neither, or damaged.
    """
    if path.is_dir():
        if not (path / RECIPE).exists():
            raise InputError(f"{path}: not a run folder (no {RECIPE} in it)")
        if not (path / BEST).exists():
            raise InputError(f"{path}: the run has no {BEST} yet; let it finish, or continue it with --resume")
        path = path / BEST
    return rebuild(read_weights(path))


def make_terms(recipes: Sequence[TermRecipe]) -> list[Term]:
    """The terms of a `distill:` list.

    Raises:
        InputError: an unknown method or argument; the near ones are named.
    """
    return [term for recipe in recipes for term in _terms_of(recipe)]


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the defaults of its methods spelt out, for the record."""
    terms: list[TermRecipe] = []
    for term in recipe.distill:
        parameters = inspect.signature(METHODS[term.method].terms).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        given = term.model_dump(exclude={"weight"} if term.weight is None else None)
        terms.append(TermRecipe(**{**defaults, **given}))
    return recipe.model_copy(update={"distill": terms})


def _terms_of(recipe: TermRecipe) -> list[Term]:
    if recipe.method not in METHODS:
        raise InputError(f"distill: unknown method {recipe.method!r}; {nearest(recipe.method, list(METHODS))}")
    build = METHODS[recipe.method].terms
    options: dict[str, Any] = dict(recipe.model_extra or {})
    if recipe.weight is not None:
        options["weight"] = recipe.weight
    known = list(inspect.signature(build).parameters)
    if unknown := [name for name in options if name not in known]:
        raise InputError(f"distill: {recipe.method} has no option {unknown[0]!r}; {nearest(unknown[0], known)}")
    try:
        terms: list[Term] = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(build)(**options)
        schedule = Schedule(**recipe.schedule)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"distill: {recipe.method}.{first['loc'][-1]}: {first['msg']}") from None
    except ValueError as error:
        raise InputError(f"distill: {recipe.method}: {error}") from None
    names = [term.name.replace(recipe.method, recipe.name or recipe.method, 1) for term in terms]
    return [
        replace(
            term,
            name=name,
            schedule=schedule,
            placebo=recipe.placebo,
            share=recipe.share,
            strides=None if recipe.strides is None else tuple(recipe.strides),
        )
        for term, name in zip(terms, names, strict=True)
    ]


def _build(model: ModelRecipe, classes: Sequence[str], size: ImageSize, say: Say) -> Detector:
    arguments = model.model_dump(include=set(ModelRecipe.model_fields) - {"detector"})
    return detectors.build(model.detector, classes=classes, image_size=size, notes=say, **arguments)
