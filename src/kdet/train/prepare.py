"""A recipe's parts before the first step: the same ones for a run, a check, a trial, a comparison and a search."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kdet.data import DetectionDataset, EpochSampler, Joined, Source
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.train.build import build_distiller, build_student
from kdet.train.data import Splits, open_data, training_data
from kdet.train.recipe.schema import Recipe, bf16_is_fast
from kdet.types import Detector


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data, student and teachers, on the processor and in the mode in which they were built."""

    recipe: Recipe
    splits: Splits
    distiller: Distiller
    data: DetectionDataset
    """The augmented training images; unlabelled ones wait for `put_teacher_boxes`."""
    sampler: EpochSampler
    notes: list[str]
    """What the user should know; what the data's readers say stands in `splits.notes`."""

    @property
    def train(self) -> Source:
        """The labelled training images."""
        return self.splits.train

    @property
    def val(self) -> Source:
        """The validation images."""
        return self.splits.val

    @property
    def unlabelled(self) -> Source | None:
        """The training images beside the labelled ones."""
        return self.data.source.unlabelled if isinstance(self.data.source, Joined) else None

    @property
    def student(self) -> Detector:
        """What is trained."""
        return self.distiller.student


def prepare(recipe: Recipe, *, splits: Splits | None = None, rank: int = 0, world: int = 1) -> Prepared:
    """Build what a run of the recipe trains, from its seed.

    Args:
        recipe: with or without a teacher.
        splits: its data, where they are open already.
        rank: of this process, among those that divide the training images.
        world: number of these processes.

    Raises:
        InputError: missing data or weights, other classes, terms that the pair cannot serve, or a precision in which
            this torch trains wrongly.
    """
    torch.manual_seed(recipe.train.seed)
    notes = list(recipe.notes)
    if recipe.train.precision == "bf16-mixed":
        if recipe.bf16_fault:
            raise InputError(f"train.precision: {recipe.bf16_fault}; use fp32")
        if not bf16_is_fast():
            notes.append("train.precision: this machine is many times slower with bf16-mixed than with fp32; use auto")
    splits = splits or open_data(recipe)
    classes = splits.train.index.classes
    distiller, more = build_pair(recipe, classes)
    notes += more
    data, sampler = training_data(recipe, splits.train, distiller, notes.append, rank=rank, world=world)
    return Prepared(recipe=recipe, splits=splits, distiller=distiller, data=data, sampler=sampler, notes=notes)


def build_pair(recipe: Recipe, classes: Sequence[str]) -> tuple[Distiller, list[str]]:
    """Build the student with its teachers and terms, or alone, and what the user should know of them.

    Returns:
        The module to train, and lines for the user.

    Raises:
        InputError: missing weights, other classes, or terms that the pair cannot serve.
    """
    notes = list[str]()
    student = build_student(recipe, classes, notes.append)
    return build_distiller(recipe, student, classes, notes.append), notes
