"""Feature maps of teacher and student and their similarity, as coloured pictures with the scale beside them.

Both colour scales grow evenly in lightness, so that they read the same for colour-blind people and in print.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import matplotlib as mpl
import numpy as np
from PIL import Image

from kdet.errors import InputError
from kdet.report.collect import Json, RunSummary
from kdet.report.embed import open_picture, picture_uri, png_uri

ACTIVATION, SIMILARITY = "viridis", "cividis"
_SIDES = ("teacher", "student")


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """One map, a pixel a cell."""

    picture: str
    """A `data:` address."""
    alt: str
    words: str
    """Its numbers, to stand below it."""
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class LevelRow:
    """One level of the neck."""

    stride: int
    teacher: Heatmap
    student: Heatmap
    similarity: Heatmap | None
    """None where the two have different channels and no adapter."""


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What both models make of one image inside."""

    title: str
    picture: str
    rows: tuple[LevelRow, ...]


def insides_of(run: RunSummary) -> tuple[Inside, ...]:
    """Return the images whose maps a run kept; none of a run without a teacher.

    Raises:
        InputError: maps/maps.json is damaged, or a picture is missing.
    """
    if run.maps is None:
        return ()
    folder = run.folder / "maps"
    try:
        pictures = [picture for picture in cast(Sequence[Json], run.maps["pictures"]) if picture["levels"]]
        return tuple(
            Inside(
                title=str(picture["name"]),
                picture=picture_uri(open_picture(folder / Path(str(picture["file"])).name)),
                rows=tuple(_row(level, folder) for level in picture["levels"]),
            )
            for picture in pictures
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{folder / 'maps.json'}: lacks or garbles {error}; take the folder away, and the page is without it"
        ) from None


@cache
def scale_picture(name: str) -> str:
    """Return the colours of a scale from low to high, as a `data:` address."""
    return png_uri(_coloured(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), name))


def _row(level: Json, folder: Path) -> LevelRow:
    stride = int(level["stride"])
    teacher, student = (_activation(level[side], folder, side, stride) for side in _SIDES)
    alike = level["similarity"]
    return LevelRow(
        stride=stride,
        teacher=teacher,
        student=student,
        similarity=None if alike is None else _similarity(alike, folder, stride),
    )


def _activation(about: Json, folder: Path, side: str, stride: int) -> Heatmap:
    words = f"{float(about['low']):.2g}…{float(about['high']):.2g}"
    return _heatmap(about, folder, ACTIVATION, f"{side}, stride {stride}: mean activation {words}", words)


def _similarity(about: Json, folder: Path, stride: int) -> Heatmap:
    words = f"{float(about['mean']):.2f}"
    return _heatmap(about, folder, SIMILARITY, f"SSIM of teacher and student, stride {stride}: mean {words}", words)


def _heatmap(about: Json, folder: Path, scale: str, alt: str, words: str) -> Heatmap:
    grey = open_picture(folder / Path(str(about["file"])).name).convert("L")
    return Heatmap(picture=png_uri(_coloured(grey, scale)), alt=alt, words=words, width=grey.width, height=grey.height)


def _coloured(grey: Image.Image, scale: str) -> Image.Image:
    table = np.asarray(mpl.colormaps[scale](np.arange(256), bytes=True))[:, :3]
    coloured = grey.copy()
    coloured.putpalette(table.astype(np.uint8).tobytes())
    return coloured
