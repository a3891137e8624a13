"""What the models of one data set find on the same images: pictures for a page, with their content in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image

from kdet.errors import InputError
from kdet.report.collect import Json, RunSummary
from kdet.report.embed import open_picture, picture_uri
from kdet.report.pictures import Mark, draw_marks

MIN_SCORE = 0.3
"""Detections below it are left out, as where the images were chosen."""
_MOST_WORDS = 20


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one model finds on an image."""

    caption: str
    picture: str
    """A `data:` address."""
    alt: str


@dataclass(frozen=True, kw_only=True)
class SeenImage:
    """One image as several models see it."""

    title: str
    seen: tuple[Seen, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images side by side."""

    why: str
    """Why these images and no others."""
    sights: tuple[SeenImage, ...]


def gallery_of(runs: Mapping[str, RunSummary]) -> Gallery | None:
    """Return the images that one of the runs kept, as the truth, its teacher and all runs on the same data see them.

    Args:
        runs: by the name they bear on the page. The images are those of the first that has a teacher, else of the
            first that kept any.

    Raises:
        InputError: maps/maps.json or a predictions file is damaged, or a picture is missing.
    """
    kept = [name for name, run in runs.items() if run.maps is not None and run.predictions is not None]
    if not kept:
        return None
    name = next((name for name in kept if runs[name].teacher_predictions is not None), kept[0])
    owner = runs[name]
    assert owner.maps is not None
    try:
        pictures = cast(Sequence[Json], owner.maps["pictures"])
        ids = {int(picture["image_id"]) for picture in pictures}
        found = {caption: _marks(content, ids) for caption, content in _models(name, runs).items()}
        classes = [str(name) for name in (owner.predictions or {})["classes"]]
        sights = tuple(_sight(owner.folder / "maps", picture, classes, found) for picture in pictures)
        return Gallery(why=_why(owner.maps), sights=sights) if sights else None
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{owner.folder}: maps/maps.json or a predictions file lacks or garbles {error}; take them away"
        ) from None


def _models(owner_name: str, runs: Mapping[str, RunSummary]) -> dict[str, Json]:
    """Predictions by caption: the owner's teacher, then all runs on the same data."""
    owner = runs[owner_name]
    classes = (owner.predictions or {}).get("classes")
    alone = len(runs) == 1
    models = {
        "student" if alone else name: run.predictions
        for name, run in runs.items()
        if run.predictions is not None
        and run.recipe.get("data") == owner.recipe.get("data")
        and run.predictions.get("classes") == classes
    }
    teacher = owner.teacher_predictions
    if teacher is None or teacher in models.values():  # the teacher may be one of the runs
        return models
    return {"teacher" if alone else f"teacher of {owner_name}": teacher} | models


def _why(maps: Json) -> str:
    other = str(maps["compared_with"])
    reading = f"Dashed boxes are the truth; numbers are scores, from {MIN_SCORE:g} on."
    if any(float(picture["difference"]) > 0 for picture in maps["pictures"]):
        return f"The validation images on which student and {other} differ most after the last epoch. {reading}"
    return (
        f"The first validation images: student and {other} differ on none, at scores from {MIN_SCORE:g} on. {reading}"
    )


def _sight(
    folder: Path, picture: Json, classes: Sequence[str], found: Mapping[str, Mapping[int, list[Mark]]]
) -> SeenImage:
    image = open_picture(folder / Path(str(picture["file"])).name)
    factor = image.width / float(picture["width"])
    truth = [
        Mark(box_xyxy=_four(one["box_xyxy"]), name=str(one["class"]), colour=classes.index(str(one["class"])))
        for one in picture["truth"]
    ]
    image_id = int(picture["image_id"])
    shown = {"truth": truth} | {caption: marks.get(image_id, []) for caption, marks in found.items()}
    return SeenImage(
        title=str(picture["name"]),
        seen=tuple(_seen(caption, image, marks, factor) for caption, marks in shown.items()),
    )


def _seen(caption: str, image: Image.Image, marks: Sequence[Mark], factor: float) -> Seen:
    scaled = [
        Mark(box_xyxy=_four([side * factor for side in m.box_xyxy]), name=m.name, score=m.score, colour=m.colour)
        for m in marks
    ]
    noun = "object" if caption == "truth" else "box"
    plural = noun + ("es" if noun == "box" else "s") * (len(marks) != 1)
    best = sorted(marks, key=lambda mark: -(mark.score or 0.0))
    words = [m.name if m.score is None else f"{m.name} {m.score:.2f}" for m in best[:_MOST_WORDS]]
    rest = f" and {len(best) - _MOST_WORDS} more" if len(best) > _MOST_WORDS else ""
    return Seen(
        caption=f"{caption}: {len(marks)} {plural}",
        picture=picture_uri(draw_marks(image, scaled)),
        alt=f"{caption}: {', '.join(words) or 'nothing'}{rest}",
    )


def _marks(predictions: Json, image_ids: set[int]) -> dict[int, list[Mark]]:
    classes = [str(name) for name in predictions["classes"]]
    marks: dict[int, list[Mark]] = {}
    for result in cast(Sequence[Json], predictions["results"]):
        image_id, score = int(result["image_id"]), float(result["score"])
        if image_id not in image_ids or score < MIN_SCORE:
            continue
        label = int(result["category_id"]) - 1
        left, top, width, height = _four(result["bbox"])
        box = (left, top, left + width, top + height)
        marks.setdefault(image_id, []).append(Mark(box_xyxy=box, name=classes[label], score=score, colour=label))
    return marks


def _four(values: Any) -> tuple[float, float, float, float]:
    first, second, third, fourth = (float(value) for value in values)
    return first, second, third, fourth
