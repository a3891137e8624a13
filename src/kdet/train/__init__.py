"""Recipe, loop, checkpoints and run log."""

from kdet.train.data import open_data
from kdet.train.loop import Outcome, fit
from kdet.train.recipe.file import read_recipe, write_recipe
from kdet.train.recipe.schema import Recipe
from kdet.train.teaching.teachers import load_detector

__all__ = ["Outcome", "Recipe", "fit", "load_detector", "open_data", "read_recipe", "write_recipe"]
