"""Recipe → images: both splits, unlabelled ones, and the training set with its order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdet.data import (
    DetectionDataset,
    EpochSampler,
    IndexedSource,
    Pipeline,
    Source,
    concatenated,
    divided,
    image_folder,
    joined,
    open_model_labels,
    open_source,
    rest_of,
    share_of,
    split_off,
    without_labels,
)
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.train.models import Say
from kdet.train.recipe.data import SPLIT, FileData, ShapesData, Unlabelled
from kdet.train.recipe.schema import Recipe
from kdet.train.teaching.cache_compat import require_cacheable


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The images of a recipe."""

    train: Source
    """The labelled ones that are trained on."""
    val: Source
    notes: list[str]
    """What the readers mended, and what is left aside."""


def open_data(recipe: Recipe) -> Splits:
    """Open the training and validation images.

    Raises:
        InputError: missing, empty or malformed data, or no object in either split.
    """
    data, notes = recipe.data, list[str]()
    train, val = _opened(data, notes.append)
    labelled = share_of(train, data.labels)
    for name, source in (("training", labelled), ("validation", val)):
        if source.index.crowd.all():
            raise InputError(f"no {name} image holds an object, so nothing can be {_USE[name]}; check the annotations")
    if labelled is not train:
        notes.append(f"training on {len(labelled.index)} of {len(train.index)} images (labels: {data.labels:g})")
    return Splits(train=labelled, val=val, notes=notes)


_USE = {"training": "learned", "validation": "measured"}


def _opened(data: FileData | ShapesData, say: Say) -> tuple[Source, Source]:
    """Both splits, before any share is taken."""
    train = _open(data, "train", say)
    if data.hold_out is not None:
        if len(train.index) < 2:
            raise InputError("data.hold_out: one training image cannot be divided; leave `hold_out` out")
        train, val = split_off(train, data.hold_out)
        say(f"validation on {len(val.index)} training images that are held out; `val` is not looked at")
        return train, val
    if isinstance(data, FileData) and data.val == SPLIT:
        rest, val = divided(train, data.split_off, data.split_seed)
        say(f"validation on {len(val.index)} of {len(train.index)} training images, look-alikes on one side")
        return rest, val
    return train, _open(data, "val", say)


def open_unlabelled(recipe: Recipe, classes: Sequence[str], say: Say) -> Source | None:
    """Open the images of `data.unlabelled`, with boxes where a model has labelled them.

    Args:
        recipe: its data settings are read.
        classes: the student's columns.
        say: receives what the user should know.

    Raises:
        InputError: no such folder or no image in it.
    """
    data = recipe.data
    if data.unlabelled is None:
        return None
    own = data.unlabelled
    if own.has_boxes:
        return _with_model_boxes(own, classes, say)
    if own.images == "rest":
        source = without_labels(rest_of(_opened(data, list[str]().append)[0], data.labels))
    else:
        source = image_folder(Path(own.images))
    shown = "the scores of its best F1" if own.score == "auto" else f"score {own.score:g}"
    say(f"unlabelled: {len(source.index)} images, {own.per_batch} a batch, the teacher's boxes from {shown} on")
    return source


def _with_model_boxes(own: Unlabelled, classes: Sequence[str], say: Say) -> Source:
    """The images and boxes that `kdet label` wrote, those from the score on."""
    if own.score == "auto":
        raise InputError(
            f"data: unlabelled: {own.images} has boxes of its own, so there is no teacher to try on labelled images; "
            "give a number, or let `kdet label --score auto` choose"
        )
    source = relabelled(open_model_labels(Path(own.images)), classes)
    index = source.index
    if index.scores is None:
        raise InputError(f"data: unlabelled: {own.images}: no box with a score in it; write it anew with `kdet label`")
    kept = index.only_boxes(index.scores >= own.score)
    say(
        f"unlabelled: {len(index)} images, {own.per_batch} a batch, with {len(kept.labels)} boxes from score "
        f"{own.score:g} on that a model gave them"
    )
    return IndexedSource(kept, source)


def training_data(
    recipe: Recipe, train: Source, distiller: Distiller, say: Say, *, rank: int = 0, world: int = 1
) -> tuple[DetectionDataset, EpochSampler]:
    """Return the augmented images and their order; unlabelled ones wait for `put_teacher_boxes`.

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
    unlabelled = open_unlabelled(recipe, distiller.student.class_names, say)
    source = labelled if unlabelled is None else joined(labelled, unlabelled)
    pipeline = Pipeline(
        recipe.data.image_size,
        recipe.data.augment,
        canvas=distiller.student.canvas,
        teacher_scale=distiller.teacher_scale,
    )
    require_cacheable(recipe, distiller, pipeline)
    sampler = EpochSampler(
        count,
        batch_size=settings.batch_size,
        seed=settings.seed,
        rank=rank,
        world=world,
        unlabelled=len(source.index) - count,
        unlabelled_per_batch=recipe.data.unlabelled.per_batch if recipe.data.unlabelled else 0,
    )
    soft = recipe.data.soft_targets
    return DetectionDataset(source, pipeline, seed=settings.seed, soft_targets=soft), sampler


def _open(data: FileData | ShapesData, split: Literal["train", "val"], say: Say) -> Source:
    if isinstance(data, ShapesData):
        return open_source("shapes", split=split, shapes=data.shapes())
    require_prepared(data, split)
    source = concatenated(
        [
            open_source(
                data.format,
                path,
                split=split,
                images=data.images,
                on_bad_box=data.on_bad_box,
                first_pixel=data.first_pixel,
            )
            for path in data.paths(split)
        ]
    )
    for note in source.index.notes:
        say(note)
    return source


def require_prepared(data: FileData | ShapesData, *splits: Literal["train", "val"]) -> None:
    """Refuse files that are not there yet, with the command that makes them.

    Raises:
        InputError: they are not there, and the recipe says how they are made.
    """
    if isinstance(data, ShapesData) or data.prepare is None:
        return
    for split in splits:
        if missing := [path for path in data.paths(split) if str(path) != SPLIT and not path.exists()]:
            raise InputError(f"data.{split}: {missing[0]} does not exist yet; make it first: {data.prepare}")


def relabelled(source: Source, class_names: Sequence[str]) -> Source:
    """Return the source with labels that are columns of a model's class list."""
    return IndexedSource(source.index.relabelled(class_names), source)
