"""Draw a layout: textured ground, clutter, objects with smooth edges, pixel noise."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kdet.data.shapes.layout import Item, Layout

Pixels = NDArray[np.float32]
"""H×W×3, 0…1."""

_OVERSAMPLING = 4
"""Edges are drawn this much finer and averaged."""
_GRAINS = (3, 8, 24)
"""Cells per side of the texture's layers."""


def draw(
    layout: Layout, generator: np.random.Generator, *, image_size: int, texture: float, noise: float, contrast: float
) -> NDArray[np.uint8]:
    """Draw the image of a layout, H×W×3 RGB."""
    ground = generator.random(3, np.float32)
    weave = _weave(generator, image_size)
    canvas: Pixels = (ground + texture * weave).astype(np.float32)
    fill: Pixels = np.float32(texture * 0.5) * _weave(generator, image_size)
    for item in (*layout.clutter, *layout.objects):
        _lay_over(canvas, item, _other_colour(generator, ground, contrast) + fill)
    canvas += np.float32(noise) * generator.standard_normal(canvas.shape, np.float32)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def _weave(generator: np.random.Generator, size: int) -> Pixels:
    """Smooth coloured noise around 0 in three sizes of grain, values about -0.5…0.5."""
    total = np.zeros((size, size, 3), np.float32)
    for grain in _GRAINS:
        cells = generator.integers(0, 256, (grain, grain, 3), np.uint8)
        layer = Image.fromarray(cells, "RGB").resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(layer, np.float32)
    return total / np.float32(255 * len(_GRAINS)) - np.float32(0.5)


def _other_colour(generator: np.random.Generator, ground: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    """A random colour that differs from the ground by `contrast` in at least one channel."""
    colour = generator.random(3, np.float32)
    gap = colour - ground
    strongest = int(np.abs(gap).argmax())
    if abs(gap[strongest]) < contrast:
        # Away from the ground, to the side where there is room.
        colour[strongest] = ground[strongest] + (contrast if ground[strongest] < 0.5 else -contrast)
    return colour.clip(0, 1)


def _lay_over(canvas: Pixels, item: Item, colour: Pixels) -> None:
    """Paint one polygon onto the canvas, in place."""
    x1, y1, x2, y2 = item.box_xyxy
    left, top = math.floor(x1), math.floor(y1)
    right, bottom = min(math.ceil(x2), canvas.shape[1]), min(math.ceil(y2), canvas.shape[0])
    patch = Image.new("L", ((right - left) * _OVERSAMPLING, (bottom - top) * _OVERSAMPLING))
    # PIL paints the outline, too, half a fine pixel outside: the polygon is drawn that much smaller to keep its extent.
    middle, extent = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1])
    narrowed = middle + (item.polygon - middle) * (1 - 1 / (_OVERSAMPLING * extent))
    corners = (narrowed - [left, top]) * _OVERSAMPLING
    ImageDraw.Draw(patch).polygon([(x, y) for x, y in corners.tolist()], fill=255)
    cover = np.asarray(patch.reduce(_OVERSAMPLING), np.float32)[:, :, None] / 255
    spot = canvas[top:bottom, left:right]
    spot += cover * (colour[top:bottom, left:right] - spot)
