"""The generated data set: a function of its seed, with exact boxes, as hard as asked for."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kdet.data import Shapes, ShapesSource
from kdet.data.shapes.drawing import draw
from kdet.data.shapes.layout import CLUTTER, SHAPES, Item, Layout, lay_out
from kdet.errors import InputError

SMALL = Shapes(images=30, val_images=10, image_size=64)


def test_images_do_not_depend_on_order_or_company():
    forward, backward = ShapesSource(SMALL), ShapesSource(SMALL, hold=False)
    first = [forward.read(i) for i in range(30)]
    second = [backward.read(i) for i in reversed(range(30))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    more = ShapesSource(Shapes(images=60, val_images=10, image_size=64))
    assert torch.equal(more.read(29), first[29])
    np.testing.assert_array_equal(more.index.objects(29).boxes_xyxy, forward.index.objects(29).boxes_xyxy)


def test_seeds_and_splits_differ():
    one, two = ShapesSource(SMALL), ShapesSource(Shapes(images=30, val_images=10, image_size=64, seed=1))
    validation = ShapesSource(SMALL, split="val")
    assert not torch.equal(one.read(0), two.read(0))
    assert not torch.equal(one.read(0), validation.read(0))
    assert len(validation.index) == 10
    with pytest.raises(InputError, match="not 'test'"):
        ShapesSource(SMALL, split="test")


def test_reading_returns_what_the_index_says():
    source = ShapesSource(SMALL)
    image = source.read(3)
    assert image.dtype == torch.uint8
    assert tuple(image.shape[-2:]) == source.index.size_hw(3)
    assert source.read(3) is image
    with pytest.raises(IndexError):
        source.read(30)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_the_extent_of_what_is_drawn(name: str, seed: int):
    label = list(SHAPES).index(name)
    generator = np.random.default_rng(seed)
    while True:
        layout = lay_out(
            generator,
            image_size=80,
            classes=len(SHAPES),
            objects=(1, 1),
            scale=(0.1, 0.6),
            occlusion=0,
            rotation=1,
            clutter=0,
        )
        if layout.objects[0].label == label:
            break
    drawn = draw(layout, np.random.default_rng(5), image_size=80, texture=0, noise=0, contrast=0.4)
    ground = draw(Layout((), ()), np.random.default_rng(5), image_size=80, texture=0, noise=0, contrast=0.4)
    changed = (drawn != ground).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    # A pixel that a tip touches by a sliver may keep its value after rounding.
    np.testing.assert_allclose(layout.objects[0].box_xyxy, extent, atol=1.3)


def cover_of(polygon: np.ndarray) -> np.ndarray:
    """How much of each pixel of a 64×64 image a polygon takes, 0…1."""
    size = {"image_size": 64, "texture": 0.0, "noise": 0.0, "contrast": 1.0}
    drawn = draw(Layout((), (Item(polygon, 1),)), np.random.default_rng(0), **size).astype(np.float64)
    change = np.abs(drawn - draw(Layout((), ()), np.random.default_rng(0), **size))
    channel = int(change.max(axis=(0, 1)).argmax())
    return change[:, :, channel] / change.max()


def test_boxes_are_exact_below_a_pixel_and_without_bias():
    generator = np.random.default_rng(1)
    errors: list[float] = []
    for _ in range(100):
        x1, y1, width, height = generator.uniform([2, 2, 8, 8], [20, 20, 40, 40])
        polygon = np.array([[x1, y1], [x1 + width, y1], [x1 + width, y1 + height], [x1, y1 + height]])
        cover = cover_of(polygon)
        middle_x, middle_y = int(x1 + width / 2), int(y1 + height / 2)
        errors += [cover[:, middle_x].sum() - height, cover[middle_y].sum() - width]
        errors += [cover[:middle_y, middle_x].sum() - (middle_y - y1)]
    assert np.abs(errors).max() < 0.3
    assert abs(np.mean(errors)) < 0.03


def test_objects_lie_inside_and_have_the_asked_sizes():
    index = ShapesSource(Shapes(images=200, image_size=96, scale=(0.1, 0.4), objects=(2, 6))).index
    boxes = index.boxes_xyxy
    assert (boxes > -1e-4).all()
    assert (boxes < 96 + 1e-4).all()
    long_side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert long_side.min() >= 9.6 - 1e-3
    assert long_side.max() <= 38.4 + 1e-3
    assert np.diff(index.offsets).max() <= 6
    assert min(index.class_counts().values()) > 100


@pytest.mark.parametrize("limit", [0.0, 0.3, 1.0])
def test_occlusion_is_limited(limit: float):
    index = ShapesSource(Shapes(images=60, objects=(4, 8), occlusion=limit)).index
    worst = 0.0
    for i in range(len(index)):
        boxes = index.objects(i).boxes_xyxy.astype(float)
        for a in range(len(boxes)):
            for b in range(a):
                overlap = np.clip(
                    np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2]), 0, None
                )
                smaller = min(np.prod(box[2:] - box[:2]) for box in (boxes[a], boxes[b]))
                worst = max(worst, float(overlap.prod() / smaller))
    assert worst <= limit + 1e-4
    assert limit < 0.5 or worst > 0.5


def test_texture_noise_and_rotation_can_be_switched_off():
    plain = Shapes(images=3, objects=(0, 0), texture=0, noise=0, clutter=0)
    image = ShapesSource(plain).read(0)
    assert (image == image[:, :1, :1]).all()
    upright = ShapesSource(Shapes(images=40, classes=2, rotation=0)).index
    sides = upright.boxes_xyxy[:, 2:] - upright.boxes_xyxy[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-2)


def test_all_classes_and_clutter_can_be_drawn():
    source = ShapesSource(Shapes(images=80, classes=20, clutter=8, image_size=64))
    assert source.index.classes == tuple(SHAPES)
    assert min(source.index.class_counts().values()) > 0
    for i in range(80):
        source.read(i)


@pytest.mark.parametrize("template", [*SHAPES.values(), *CLUTTER])
def test_templates_are_polygons_that_fill_something(template: np.ndarray):
    patch = Image.new("L", (100, 100))
    scaled = (template - template.min(axis=0)) / np.ptp(template) * 99
    ImageDraw.Draw(patch).polygon([tuple(point) for point in scaled.tolist()], fill=1)
    assert 0.03 < np.asarray(patch).mean() < 0.95


BAD = [
    {"images": 0},
    {"val_images": 0},
    {"image_size": 8},
    {"classes": 21},
    {"classes": 0},
    {"seed": -1},
    {"objects": (3, 2)},
    {"scale": (0.01, 0.4)},
    {"scale": (0.4, 0.95)},
    {"occlusion": 1.5},
    {"noise": float("nan")},
    {"clutter": -1},
]


@pytest.mark.parametrize("parts", BAD, ids=str)
def test_bad_parameters_are_named(parts: dict[str, object]):
    with pytest.raises(InputError, match=f"shapes {next(iter(parts))}: expected"):
        Shapes(**parts)  # pyright: ignore[reportArgumentType]
