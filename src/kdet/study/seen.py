"""Whether a teacher was trained on the images that its students are judged on; by the recipe in its run folder."""

from collections.abc import Hashable, Iterator
from dataclasses import asdict

from kdet.data import Source
from kdet.errors import InputError
from kdet.train import Recipe, open_data, read_recipe
from kdet.train.recipe_data import ShapesData
from kdet.train.recipe_models import FoundationTeacher, OneTeacher, RunTeacher
from kdet.train.run_folder import RECIPE

_COUNTS = ("images", "val_images")
"""Of generated data: how many there are says nothing of what one of them shows."""


def seen_in_training(recipe: Recipe, judged: Source) -> list[int | None]:
    """For each teacher, how many of these images it was trained on; None where nothing tells.

    Args:
        recipe: whose teachers, and whose data.
        judged: the images on which students are compared.
    """
    own = _images(recipe, judged)
    trained_on = [_training_images(teacher) for teacher in recipe.teachers]
    return [None if images is None else len(own & images) for images in trained_on]


def flattered(recipe: Recipe, judged: Source) -> Iterator[str]:
    """Why gains on these images may be too good, one line for each teacher that has learned their labels."""
    for number, seen in enumerate(seen_in_training(recipe, judged), start=1):
        if not seen:
            continue
        who = "the teacher" if len(recipe.teachers) == 1 else f"teacher {number}"
        line = (
            f"{who} was trained on {seen} of the {len(judged.index)} images on which AP is measured: it knows their "
            "labels and passes on what it knows, so gains over the student alone may be too good"
        )
        if recipe.data.hold_out is not None:
            line += f"; train one for this choice with the same `data: {{hold_out: {recipe.data.hold_out:g}}}`"
        yield line


def _training_images(teacher: OneTeacher) -> set[Hashable] | None:
    """With their labels; None for weights without a recipe beside them, or where its data are not there any more."""
    if isinstance(teacher, FoundationTeacher):
        return set()  # it knows no classes
    if not isinstance(teacher, RunTeacher):
        return None
    path = (teacher.run if teacher.run.is_dir() else teacher.run.parent) / RECIPE
    if not path.is_file():
        return None
    try:
        recipe = read_recipe(path)
        return _images(recipe, open_data(recipe, _say_nothing)[0])
    except InputError:
        return None


def _images(recipe: Recipe, source: Source) -> set[Hashable]:
    """What tells one image from another: its file, or what it is generated from."""
    index, data = source.index, recipe.data
    if isinstance(data, ShapesData):
        made_from = tuple((name, value) for name, value in asdict(data.shapes()).items() if name not in _COUNTS)
        return {(made_from, index.file_names[i]) for i in range(len(index))}
    root = index.root.resolve()
    return {root / index.file_names[i] for i in range(len(index))}


def _say_nothing(line: str) -> None:
    """The teacher's own run said it."""
