"""What stands where in a generated image: polygons and their exact boxes, before anything is drawn."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]
"""V×2, x y; in a template around the origin, in a layout in pixels."""

_TRIES = 12


def _ring(count: int, radii: tuple[float, ...] = (1.0,), start: float = 0.0, turn: float = 2 * math.pi) -> Polygon:
    """Points around the origin whose radii alternate."""
    angles = start + turn * np.arange(count) / count
    lengths = np.resize(np.array(radii), count)
    return np.stack([np.cos(angles) * lengths, np.sin(angles) * lengths], axis=1)


SHAPES: dict[str, Polygon] = {
    "circle": _ring(48),
    "square": _ring(4),
    "triangle": _ring(3),
    "star": _ring(10, (1.0, 0.45)),
    "cross": np.array(
        [[-1, -3], [1, -3], [1, -1], [3, -1], [3, 1], [1, 1], [1, 3], [-1, 3], [-1, 1], [-3, 1], [-3, -1], [-1, -1]],
        np.float64,
    ),
    "half-disc": _ring(24, turn=math.pi * 24 / 23),
    "pentagon": _ring(5),
    "hexagon": _ring(6),
    "burst": _ring(16, (1.0, 0.6)),
    "wedge": np.concatenate([_ring(24, turn=5.0), np.zeros((1, 2))]),
    "arrow": np.array([[-3, -1], [0, -1], [0, -3], [3, 0], [0, 3], [0, 1], [-3, 1]], np.float64),
    "house": np.array([[-2, 3], [2, 3], [2, -1], [0, -3], [-2, -1]], np.float64),
    "tee": np.array([[-3, -3], [3, -3], [3, -1], [1, -1], [1, 3], [-1, 3], [-1, -1], [-3, -1]], np.float64),
    "channel": np.array([[-3, -3], [-1, -3], [-1, 1], [1, 1], [1, -3], [3, -3], [3, 3], [-3, 3]], np.float64),
    "step": np.array([[-3, -2], [1, -2], [1, 0], [3, 0], [3, 2], [-1, 2], [-1, 0], [-3, 0]], np.float64),
    "kite": np.array([[0, -2], [1.5, 0], [0, 4], [-1.5, 0]]),
    "trapezoid": np.array([[-1, -1.5], [1, -1.5], [3, 1.5], [-3, 1.5]]),
    "slant": np.array([[-3, -1.5], [1, -1.5], [3, 1.5], [-1, 1.5]]),
    "hourglass": np.array([[-2, -3], [2, -3], [0.4, 0], [2, 3], [-2, 3], [-0.4, 0]]),
    "bolt": np.array([[0, -4], [2, -4], [0.5, -0.5], [2, -0.5], [-1.5, 4], [-0.3, 0.8], [-2, 0.8]]),
}
"""Kinds of objects in the order of their labels."""

CLUTTER: tuple[Polygon, ...] = (
    np.array([[-5, -1], [5, -1], [5, 1], [-5, 1]], np.float64),
    np.array([[-3, -3], [-1, -3], [-1, 1], [3, 1], [3, 3], [-3, 3]], np.float64),
    np.array([[-3, -2], [0, 0], [3, -2], [0, 3]], np.float64),
    np.concatenate([_ring(16, turn=4.0), _ring(16, (0.6,), turn=4.0)[::-1]]),
)
"""Things of no class: a bar, an angle, an arrowhead, an arc."""


@dataclass(frozen=True)
class Item:
    """One object or one piece of clutter."""

    polygon: Polygon
    """Corners in pixels; pixel (0, 0) covers 0…1."""
    label: int
    """Index into SHAPES, -1 for clutter."""

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """Extent of the whole shape, hidden parts included."""
        (x1, y1), (x2, y2) = self.polygon.min(axis=0).tolist(), self.polygon.max(axis=0).tolist()
        return x1, y1, x2, y2


@dataclass(frozen=True)
class Layout:
    """One image."""

    clutter: tuple[Item, ...]
    """Drawn first."""
    objects: tuple[Item, ...]
    """Drawn in this order: later ones cover earlier ones."""


def lay_out(
    generator: np.random.Generator,
    *,
    image_size: int,
    classes: int,
    objects: tuple[int, int],
    scale: tuple[float, float],
    occlusion: float,
    rotation: float,
    clutter: int,
) -> Layout:
    """Place objects wholly inside the image so that no box covers more than `occlusion` of another."""
    templates = tuple(SHAPES.values())[:classes]
    things: list[Item] = []
    for _ in range(int(generator.integers(clutter + 1))):
        kind, angle, size, x, y = generator.random(5).tolist()
        side = image_size * (scale[0] + (scale[1] - scale[0]) * size)
        template = CLUTTER[int(kind * len(CLUTTER))]
        things.append(Item(_placed(template, angle * 2 * math.pi, side, x, y, image_size), -1))
    placed: list[Item] = []
    wanted = int(generator.integers(objects[0], objects[1] + 1))
    for _ in range(wanted):
        label = int(generator.integers(classes))
        for angle, size, x, y in generator.random((_TRIES, 4)).tolist():
            # Equal shares of every octave: otherwise large objects would crowd out the small ones.
            side = image_size * scale[0] * (scale[1] / scale[0]) ** size
            turned = (angle - 0.5) * 2 * math.pi * rotation - math.pi / 2
            item = Item(_placed(templates[label], turned, side, x, y, image_size), label)
            if all(_covered_share(item.box_xyxy, other.box_xyxy) <= occlusion for other in placed):
                placed.append(item)
                break
    return Layout(tuple(things), tuple(placed))


def _placed(template: Polygon, angle: float, side: float, x: float, y: float, image_size: int) -> Polygon:
    """Turn a template, make its long side `side` pixels, and put it at a share (0…1) of the room there is."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = template @ np.array([[cosine, sine], [-sine, cosine]])
    low = turned.min(axis=0)
    extent = turned.max(axis=0) - low
    factor = side / float(extent.max())
    room = image_size - extent * factor
    return (turned - low) * factor + room * np.array([x, y])


def _covered_share(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Intersection of two boxes relative to the smaller one."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / min(areas)
