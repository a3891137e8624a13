"""On which images a teacher was trained, by the recipe in its run folder."""

from collections.abc import Hashable
from dataclasses import asdict

from kdet.data import Source
from kdet.errors import InputError
from kdet.train.data import open_data
from kdet.train.recipe.data import ShapesData
from kdet.train.recipe.file import read_recipe
from kdet.train.recipe.models import FoundationTeacher, OneTeacher, RunTeacher
from kdet.train.recipe.schema import Recipe
from kdet.train.state.run_folder import RECIPE

_COUNTS = ("images", "val_images")
"""Settings of generated data that do not change what a single image shows."""


def training_images(teacher: OneTeacher) -> set[Hashable] | None:
    """Return the images that a teacher was trained on with labels; None for weights without a recipe beside them, or
    where its data are not there any more."""
    if isinstance(teacher, FoundationTeacher):
        return set()  # it knows no classes
    if not isinstance(teacher, RunTeacher):
        return None
    path = (teacher.run if teacher.run.is_dir() else teacher.run.parent) / RECIPE
    if not path.is_file():
        return None
    try:
        recipe = read_recipe(path)
        return set(image_keys(recipe, open_data(recipe).train))
    except InputError:
        return None


def image_keys(recipe: Recipe, source: Source) -> list[Hashable]:
    """Return what tells one image from another: its file, or what it is generated from."""
    index, data = source.index, recipe.data
    if isinstance(data, ShapesData):
        made_from = tuple((name, value) for name, value in asdict(data.shapes()).items() if name not in _COUNTS)
        return [(made_from, index.file_names[i]) for i in range(len(index))]
    root = index.root.resolve()
    return [root / index.file_names[i] for i in range(len(index))]
