"""A recipe's teachers, with what is learned from each."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from kdet import detectors
from kdet.detectors import classes_in, read_weights, rebuild
from kdet.distill import METHODS, FrozenTeacher, Schedule, TeacherConfig, Term
from kdet.errors import InputError
from kdet.files import exists, is_folder
from kdet.train.models import Say, build_detector
from kdet.train.recipe.file import nearest
from kdet.train.recipe.models import FoundationTeacher, OneTeacher, RunTeacher, TermRecipe
from kdet.train.recipe.schema import Recipe
from kdet.train.state.run_folder import BEST, RECIPE
from kdet.types import Detector, ImageSize


def build_teachers(recipe: Recipe, classes: Sequence[str], say: Say) -> list[TeacherConfig]:
    """Build the teachers with what is learned from each; none without one.

    Args:
        recipe: with or without teachers.
        classes: of the data; a teacher whose weights name no classes has these.
        say: receives what the user should know, a line at a time.

    Raises:
        InputError: no teacher file, a teacher without terms, unknown methods or options.
    """
    made: list[TeacherConfig] = []
    named = terms_by_teacher(recipe)
    boxes_only = recipe.data.unlabelled is not None and not any(terms for _, terms in named)
    for teacher, (name, terms) in zip(recipe.teachers, named, strict=True):
        if not terms and not boxes_only:
            raise InputError(
                "the recipe names a teacher and no `distill:` terms; add e.g. `distill: [{method: structural}]`"
            )
        detector, assumed = _detector(teacher, recipe.data.image_size, classes, say)
        made.append(
            TeacherConfig(
                teacher=FrozenTeacher(detector),
                terms=terms,
                class_map=teacher.class_map,
                scale=teacher_scale(teacher, recipe.data.image_size),
                resize=teacher.resize,
                pair_levels=teacher.pair_levels,
                name=name,
                assumes_classes=assumed,
            )
        )
    return made


def terms_by_teacher(recipe: Recipe) -> list[tuple[str, list[Term]]]:
    """Return for each teacher the prefix of its terms' names in the log, and the terms, its weight in theirs.

    Raises:
        InputError: an unknown method or option.
    """
    several = len(recipe.teachers) > 1
    found: list[tuple[str, list[Term]]] = []
    for number, teacher in enumerate(recipe.teachers, start=1):
        terms = make_terms(recipe.distill if teacher.distill is None else teacher.distill)
        name = teacher.name or (f"t{number}" if several else "")
        found.append((name, [_weighed(term, teacher.weight) for term in terms]))
    return found


def build_teacher(recipe: Recipe, teacher: OneTeacher, classes: Sequence[str], say: Say) -> FrozenTeacher:
    """Build one of the recipe's teachers, arguments and errors as of `build_teachers`."""
    return FrozenTeacher(_detector(teacher, recipe.data.image_size, classes, say)[0])


def teacher_scale(teacher: OneTeacher, image_size: ImageSize) -> float:
    """Return how many times larger the teacher's images are than the student's.

    Raises:
        InputError: one size is a long side, and the other a short side with its limit.
    """
    if teacher.image_size is None:
        return 1.0
    if isinstance(teacher.image_size, int) != isinstance(image_size, int):
        raise InputError(
            f"teacher: image_size: {teacher.image_size} beside the student's {image_size}; give both as a long side, "
            "or both as [short side, limit]"
        )
    ours, theirs = (size if isinstance(size, int) else size[0] for size in (image_size, teacher.image_size))
    return theirs / ours


def require_trained(teacher: RunTeacher) -> None:
    """Refuse a run that is not there yet, with the command that makes it.

    Raises:
        InputError: neither such a folder nor such a file.
    """
    if not exists(teacher.run):
        shown = str(teacher.run)[:200]
        raise InputError(
            f"teacher.run: {shown} does not exist yet; train it first: kdet train ITS-RECIPE --run {shown}"
        )


def load_detector(path: Path) -> Detector:
    """Load the student of a run folder (its best epoch) or of a weights file that kdet wrote.

    Raises:
        InputError: neither, or damaged.
    """
    if is_folder(path):
        if not (path / RECIPE).exists():
            raise InputError(
                f"{path}: not a run folder (no {RECIPE} in it); name what `kdet train` or `kdet distill` wrote, or a "
                "weights "
                "file"
            )
        if not (path / BEST).exists():
            raise InputError(f"{path}: the run has no {BEST} yet; let it finish, or continue it with --resume")
        path = path / BEST
    return rebuild(read_weights(path))


def make_terms(recipes: Sequence[TermRecipe]) -> list[Term]:
    """Make the terms of a `distill:` list.

    Raises:
        InputError: an unknown method or argument; the near ones are named.
    """
    return [term for recipe in recipes for term in _terms_of(recipe)]


def _weighed(term: Term, factor: float) -> Term:
    if term.weight == "auto":
        return replace(term, ratio=term.ratio * factor)
    return replace(term, weight=term.weight * factor)


def _detector(teacher: OneTeacher, image_size: ImageSize, classes: Sequence[str], say: Say) -> tuple[Detector, bool]:
    """Build a detector, and tell whether nobody names the classes of its columns, so that they are taken to be the
    data's in their order."""
    if isinstance(teacher, RunTeacher):
        require_trained(teacher)
        return load_detector(teacher.run), False
    if teacher.origin is None:
        say("teacher: random weights; it knows nothing. Give `teacher: {run: …}` or `weights:`")
    if isinstance(teacher, FoundationTeacher):
        own = {"library", "weights", "options"}
        return detectors.foundation(name=teacher.foundation, **teacher.model_dump(include=own)), False
    theirs = None if teacher.weights is None else classes_in(teacher.weights, teacher.detector)
    assumed = teacher.weights is not None and theirs is None and teacher.classes is None
    if assumed:
        say(
            f"teacher: {teacher.weights} does not name its classes, so they are assumed to be the data's in this "
            f"order: {', '.join(classes)}; give them as `classes: […]` to be sure"
        )
    named = teacher.classes or theirs or classes
    return build_detector(teacher, named, teacher.image_size or image_size, say), assumed


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
            ratio=recipe.ratio,
            strides=term.strides if recipe.strides is None else tuple(recipe.strides),
        )
        for term, name in zip(terms, names, strict=True)
    ]
