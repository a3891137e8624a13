"""kdet label: what a model finds on images that nobody has labelled, as a data set with scores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdet.data import (
    DetectionDataset,
    IndexedSource,
    Pipeline,
    Source,
    convert,
    image_folder,
    make_loader,
    with_objects,
    write_record,
)
from kdet.detectors.hf.zero_shot import Prompt, ZeroShotDetector, is_zero_shot, open_zero_shot, read_prompts
from kdet.errors import InputError
from kdet.evaluate import ImagePredictions, predict_loader
from kdet.evaluate.coco_tables import check_predictions
from kdet.files import is_file, is_folder
from kdet.ops.classes import real_classes
from kdet.train import Recipe, open_data, read_recipe
from kdet.train.models import Say
from kdet.train.recipe.models import OneTeacher, RunTeacher
from kdet.train.scoring import in_own_words
from kdet.train.state.run_folder import RECIPE
from kdet.train.state.run_log import Progress
from kdet.train.teaching.teacher_boxes import objects_of
from kdet.train.teaching.teachers import build_teacher
from kdet.train.teaching.thresholds import choose_thresholds
from kdet.types import Detector
from kdet.workflows.models import open_to_run

_RECIPES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """A model that finds objects on images."""

    name: str
    """Origin of the labels."""
    classes: tuple[str, ...]
    find: Callable[[Source, float], list[ImagePredictions]]
    """Objects from a score on, on all images of a source, labels as of `classes`."""
    recipe: Recipe | None = None
    """Recipe with labelled images, for `auto`."""
    teacher: OneTeacher | None = None
    """The teacher in the recipe's form."""


def label(
    model: str, images: Path, out: Path, *, to: str, score: float | Literal["auto"], prompt: str | None, say: Say
) -> dict[str, Any]:
    """Write what a model finds on all images below a folder as a new data set, with scores.

    Args:
        model: a recipe (its first teacher that finds objects), a run folder, a weights file, an exported file; or a
            zero-shot detector of transformers: a folder, or a name on the hub.
        images: the folder.
        out: a new folder; the images are linked into it.
        to: coco or yolo.
        score: boxes from it on; auto = from the score of the best F1 of each class on labelled images of the recipe.
        prompt: of a zero-shot detector, `car: a car; bus: a bus`.
        say: receives what the user should know.

    Returns:
        What was found, as it stands in the folder's label.json.

    Raises:
        InputError: a model or images that cannot be read, a prompt too many or too few, a folder in use.
        WorkError: a box or a score is not finite.
    """
    if to not in ("coco", "yolo"):
        raise InputError(f"--to {to}: expected coco or yolo, which can keep scores")
    source = image_folder(images)
    labeller = _labeller(model, None if prompt is None else read_prompts(prompt), say)
    least, chosen = _least(labeller, score, say)
    found = labeller.find(source, float(least.min()))
    check_predictions(replace(source.index, classes=labeller.classes), found)
    labelled = with_objects(source, labeller.classes, [objects_of(one, least) for one in found])
    convert({"train": labelled}, to, out, copy_images=False)
    counts = labelled.index.class_counts()
    with_boxes = int((np.diff(labelled.index.offsets) > 0).sum())
    record = {"model": labeller.name, "prompt": prompt, "score": chosen, "images": len(found)}
    record |= {"with_boxes": with_boxes, "boxes": counts}
    write_record(out, record)
    return record | {"folder": str(out), "format": to}


def _labeller(model: str, prompts: tuple[Prompt, ...] | None, say: Say) -> Labeller:
    path = Path(model)
    trained = path.suffix.lower() in _RECIPES or is_file(path) or (path / RECIPE).exists()
    if trained and prompts is not None:
        raise InputError(f"--prompt: {model} finds the classes that it was trained on; leave the prompt out")
    if path.suffix.lower() in _RECIPES:
        return _of_recipe(path, say)
    if trained:
        return _of_file(path)
    if prompts is None:
        if is_folder(path) and not is_zero_shot(path):
            raise InputError(
                f"{model}: neither a run folder (no {RECIPE} in it) nor a zero-shot detector; name one of these, a "
                "recipe or "
                "a weights file"
            )
        kind = "a zero-shot detector" if is_folder(path) else "no such file; a zero-shot detector of the hub"
        raise InputError(f"{model}: {kind} needs `--prompt`, such as 'car: a car; bus: a bus'")
    own = open_zero_shot(model, prompts, "cuda" if torch.cuda.is_available() else "cpu")
    return Labeller(name=model, classes=own.class_names, find=lambda source, least: _prompted(own, source, least))


def _of_recipe(path: Path, say: Say) -> Labeller:
    """Its first teacher that finds objects of the recipe's classes, called as there."""
    recipe = read_recipe(path)
    splits = open_data(recipe)
    for note in splits.notes:
        say(note)
    classes = splits.train.index.classes
    for own in recipe.teachers:
        detector = build_teacher(recipe, own, classes, say).detector
        detector = in_own_words(detector, own.class_map)
        if detector.predicts and set(real_classes(detector.class_names)) & set(real_classes(classes)):
            return _trained(str(path), detector, tuple(real_classes(classes)), recipe, own)
    raise InputError(
        f"{path}: no teacher that finds objects of {list(real_classes(classes))}; add `teacher: {{run: …}}`"
    )


def _of_file(path: Path) -> Labeller:
    """A run with its recipe; a file has none."""
    detector = open_to_run(path)[0]
    recipe = read_recipe(path / RECIPE) if (path / RECIPE).exists() else None
    teacher = None if recipe is None else RunTeacher(run=path)
    return _trained(str(path), detector, tuple(real_classes(detector.class_names)), recipe, teacher)


def _trained(
    name: str, detector: Detector, classes: tuple[str, ...], recipe: Recipe | None, teacher: OneTeacher | None
) -> Labeller:
    device = "cuda" if torch.cuda.is_available() and any(True for _ in detector.model.parameters()) else "cpu"
    detector.model.to(device)

    def find(source: Source, least: float) -> list[ImagePredictions]:
        """Each image by itself, on the detector's own canvas, as `kdet predict` looks at it."""
        data = DetectionDataset(source, Pipeline(detector.image_size, canvas=detector.canvas))
        loader = make_loader(data, [[(0, i)] for i in range(len(data))])
        progress = Progress("labelling", len(data))
        found = predict_loader(detector, loader, classes, device=device, progress=progress.advance)
        progress.close()
        return found

    return Labeller(name=name, classes=classes, find=find, recipe=recipe, teacher=teacher)


def _prompted(detector: ZeroShotDetector, source: Source, least: float) -> list[ImagePredictions]:
    progress = Progress("labelling", len(source.index))
    found: list[ImagePredictions] = []
    for i, image_id in enumerate(source.index.image_ids.tolist()):
        one = detector.find(source.read(i), least)
        columns = {"boxes_xyxy": one.boxes, "scores": one.scores, "labels": one.labels}
        found.append(ImagePredictions(image_id=image_id, **{key: _array(value) for key, value in columns.items()}))
        progress.advance(1)
    progress.close()
    return found


def _least(
    labeller: Labeller, score: float | Literal["auto"], say: Say
) -> tuple[NDArray[np.float64], float | Mapping[str, Any]]:
    """The score of each class from which on its boxes are kept, and how the record says it."""
    if score != "auto":
        return np.full(len(labeller.classes), score), score
    if labeller.recipe is None or labeller.teacher is None:
        raise InputError(
            f"--score auto: looks at labelled images, and {labeller.name} brings none; name a recipe or a run, or give "
            "a number"
        )
    splits = open_data(labeller.recipe)
    for note in splits.notes:
        say(note)
    labelled = splits.train if labeller.recipe.data.hold_out is None else splits.val
    in_order = labelled.index.relabelled(labeller.classes)
    judged = IndexedSource(in_order, labelled)
    found = choose_thresholds(labeller.recipe, labeller.teacher, judged, lambda own: labeller.find(own, 0.0), say)
    scores = [found[name].score if name in found else 1.0 for name in labeller.classes]
    return np.array(scores), {name: asdict(one) for name, one in found.items()}


def _array(value: Tensor) -> Any:
    return value.cpu().numpy()
