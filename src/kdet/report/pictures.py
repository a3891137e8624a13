"""Boxes with names and scores drawn on an image, and rows of such images.

Colours are those of Okabe and Ito, which colour-blind people tell apart; every box bears its class name besides.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Corner = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
)
_BLACK, _WHITE, _PAPER = (0, 0, 0), (255, 255, 255), (250, 250, 249)
_LEGIBLE_PX = 320
"""Images with a shorter long side are enlarged, or boxes and text would cover them."""
_LONGEST_NAME = 24


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One box to draw."""

    box_xyxy: tuple[float, float, float, float]
    """Pixels of the image."""
    name: str
    """Class name; anything goes."""
    score: float | None = None
    """0…1; None marks ground truth, drawn dashed."""
    colour: int = 0
    """Number of the colour, usually the label; taken modulo the palette."""


def marks_of(
    boxes_xyxy: Sequence[Sequence[float]],
    labels: Sequence[int],
    class_names: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    min_score: float = 0.0,
) -> list[Mark]:
    """Return one mark a box; arrays go in through `tolist()`. Without scores they are ground truth."""
    given = [None] * len(labels) if scores is None else scores
    return [
        Mark(box_xyxy=(box[0], box[1], box[2], box[3]), name=class_names[label], score=score, colour=label)
        for box, label, score in zip(boxes_xyxy, labels, given, strict=True)
        if score is None or score >= min_score
    ]


def draw_marks(image: Image.Image, marks: Sequence[Mark], *, legible_px: int = _LEGIBLE_PX) -> Image.Image:
    """Draw the boxes on a new RGB image; a small one is enlarged by a whole factor first.

    Args:
        image: any mode.
        marks: the best scores end on top.
        legible_px: the long side is enlarged to at least this.
    """
    factor = max(1, -(-legible_px // max(image.size)))
    canvas = image.convert("RGB")
    if factor > 1:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(canvas)
    line = max(3, round(max(canvas.size) / 220))
    font = _font(max(14, round(max(canvas.size) / 26)))
    ordered = sorted(marks, key=lambda mark: -1.0 if mark.score is None else mark.score)
    for mark in ordered:
        _box(draw, mark, factor, line)
    taken: list[Box] = []
    for mark in reversed(ordered):  # the best score chooses its label's place first
        taken.append(_label_place(mark, factor, font, canvas.size, taken))
    for mark, place in zip(ordered, reversed(taken), strict=True):
        _label(draw, mark, place, font)
    return canvas


def side_by_side(images: Sequence[tuple[str, Image.Image]], *, height_px: int | None = None) -> Image.Image:
    """Lay images out in one row with a caption above each.

    Args:
        images: caption and picture.
        height_px: common height of the pictures; default that of the tallest.
    """
    height = height_px or max(image.height for _, image in images)
    shown = [
        image.convert("RGB").resize(
            (max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS
        )
        for _, image in images
    ]
    size = max(13, round(height / 22))
    gap, band = size, round(size * 2.2)
    width = sum(image.width for image in shown) + gap * (len(shown) + 1)
    row = Image.new("RGB", (width, height + band + gap), _PAPER)
    draw = ImageDraw.Draw(row)
    left = gap
    for (caption, _), image in zip(images, shown, strict=True):
        row.paste(image, (left, band))
        font, text = _fitting(_plain(caption, 80), size, image.width)
        draw.text((left, band / 2), text, fill=_BLACK, font=font, anchor="lm")
        left += image.width + gap
    return row


def png_bytes(image: Image.Image, *, colours: int | None = None) -> bytes:
    """Return the image as PNG; with `colours` (at most 256) as a much smaller one with a palette."""
    buffer = io.BytesIO()
    if colours is not None:
        image = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _box(draw: ImageDraw.ImageDraw, mark: Mark, factor: int, line: int) -> None:
    left, top, right, bottom = (side * factor for side in mark.box_xyxy)
    right, bottom = max(left, right), max(top, bottom)
    # A dark rim keeps the colour visible on any background.
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_BLACK, width=line + 2)
    if mark.score is not None:
        draw.rectangle((left, top, right, bottom), outline=_colour(mark), width=line)
        return
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        _dashes(draw, start, end, _colour(mark), line)


def _dashes(draw: ImageDraw.ImageDraw, start: Corner, end: Corner, colour: Colour, line: int) -> None:
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])
    dash = line * 4
    for at in range(0, int(length), dash * 2):
        span = [min(1.0, part / length) for part in (at, at + dash)]
        points = [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in span]
        draw.line(points, fill=colour, width=line)


def _label_place(
    mark: Mark, factor: int, font: ImageFont.FreeTypeFont, size: tuple[int, int], taken: Sequence[Box]
) -> Box:
    """Above the box, or where no other label is: inside, at the right, below; above again if all is full."""
    pad = _pad(font)
    width, height = font.getlength(_words(mark)) + 2 * pad, font.size + 2 * pad
    left, top, right, bottom = (side * factor for side in mark.box_xyxy)
    above = top - height if top >= height else top
    spots = [(x, y) for y in (above, top, bottom - height, bottom) for x in (left, right - width)]
    places: list[Box] = []
    for x, y in spots:
        x, y = (max(0.0, min(at, whole - own)) for at, whole, own in ((x, size[0], width), (y, size[1], height)))
        places.append((x, y, x + width, y + height))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _label(draw: ImageDraw.ImageDraw, mark: Mark, place: Box, font: ImageFont.FreeTypeFont) -> None:
    fill = _colour(mark)
    draw.rectangle(place, fill=fill)
    ink = _BLACK if 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 125 else _WHITE
    draw.text((place[0] + _pad(font), (place[1] + place[3]) / 2), _words(mark), fill=ink, font=font, anchor="lm")


def _words(mark: Mark) -> str:
    name = _plain(mark.name, _LONGEST_NAME)
    return name if mark.score is None else f"{name} {mark.score:.2f}"


def _pad(font: ImageFont.FreeTypeFont) -> int:
    return max(2, round(font.size / 6))


def _colour(mark: Mark) -> Colour:
    return PALETTE[mark.colour % len(PALETTE)]


def _plain(text: str, longest: int) -> str:
    """One printable line of at most so many characters."""
    line = "".join(character if character.isprintable() else "·" for character in text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _fitting(text: str, size: int, width: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A smaller font, and then fewer letters, until the text fits."""
    while size > 10 and _font(size).getlength(text) > width:
        size -= 1
    while len(text) > 1 and _font(size).getlength(text) > width:
        text = text[:-2] + "…"
    return _font(size), text


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it; found without importing matplotlib."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "matplotlib is a dependency of kdet"
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
