"""Sizes by torchvision's rule, and boxes that are valid whatever happened to the image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional as F

from kdet.data import NO_AUGMENTATION, Augmentation, Pipeline, image_size_of, resize
from kdet.errors import InputError
from kdet.ops.canvas import resized_hw
from kdet.ops.randomness import seeded
from kdet.types import Target

sides = st.integers(1, 400)


@settings(max_examples=60)
@given(height=sides, width=sides, short=st.integers(8, 160), more=st.integers(0, 120), square=st.booleans())
def test_sizes_are_torchvisions(height: int, width: int, short: int, more: int, square: bool):
    rule = short if square else (short, short + more)
    limit = short if square else short + more
    if min(resized_hw((height, width), rule)) == 1:
        return
    reference = GeneralizedRCNNTransform(short, limit, [0.0] * 3, [1.0] * 3)
    boxes = torch.tensor([[0.0, 0.0, width, height]])
    image, target = reference.resize(torch.zeros(3, height, width), {"boxes": boxes})
    assert resized_hw((height, width), rule) == tuple(image.shape[-2:])
    ours, own_boxes = resize(torch.zeros(3, height, width, dtype=torch.uint8), boxes, rule)
    assert ours.shape == image.shape
    torch.testing.assert_close(own_boxes, target["boxes"])


def test_resize_leaves_an_image_of_the_right_size_alone():
    image, boxes = torch.zeros(3, 60, 96, dtype=torch.uint8), torch.rand(2, 4)
    assert resize(image, boxes, 96)[0] is image
    assert resize(image, boxes, (60, 200))[1] is boxes


def test_extreme_shapes_keep_one_pixel():
    assert resized_hw((1, 5000), 64) == (1, 64)


@pytest.mark.parametrize(("value", "expected"), [(512, 512), ([800, 1333], (800, 1333)), ([64], 64), ((8, 8), (8, 8))])
def test_image_size_of_a_recipe(value: int | list[int], expected: object):
    assert image_size_of(value) == expected


@pytest.mark.parametrize("value", [0, -5, [], [0, 5], [1333, 800], [1, 2, 3]])
def test_bad_image_size(value: int | list[int]):
    with pytest.raises(InputError, match="image_size: expected"):
        image_size_of(value)


@pytest.mark.parametrize(
    "parts",
    [{"flip": 2.0}, {"crop": -0.1}, {"photometric": float("nan")}, {"scale": (2.0, 1.0)}, {"scale": (0.0, 1.0)}],
)
def test_bad_augmentation(parts: dict[str, object]):
    with pytest.raises(InputError, match=f"augmentation {next(iter(parts))}: expected"):
        Augmentation(**parts)  # pyright: ignore[reportArgumentType]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[torch.Tensor, Target]:
    """An image with a few valid boxes, some at its edges."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    boxes: list[list[float]] = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.floats(0, width - 0.5)), draw(st.floats(0, height - 0.5))
        boxes.append([x1, y1, draw(st.floats(x1 + 0.25, width)), draw(st.floats(y1 + 0.25, height))])
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    labels = torch.arange(len(boxes))
    return image, Target(boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels=labels)


@settings(max_examples=120)
@given(
    scene=scenes(),
    scale=st.sampled_from([None, (0.3, 0.8), (1.2, 2.5), (0.5, 2.0)]),
    crop=st.sampled_from([0.0, 1.0]),
    photometric=st.sampled_from([0.0, 1.0]),
    size=st.sampled_from([32, 64, (24, 60)]),
    seed=st.integers(0, 1000),
)
def test_boxes_are_always_valid(
    scene: tuple[torch.Tensor, Target],
    scale: tuple[float, float] | None,
    crop: float,
    photometric: float,
    size: int | tuple[int, int],
    seed: int,
):
    augmentation = Augmentation(flip=0.5, vertical_flip=0.5, scale=scale, crop=crop, photometric=photometric)
    before = scene[0].clone(), scene[1]["boxes"].clone()
    with seeded(seed):
        image, target = Pipeline(size, augmentation)(*scene)
    height, width = image.shape[-2:]
    boxes, labels = target["boxes"], target["labels"]
    assert type(image) is torch.Tensor
    assert type(boxes) is torch.Tensor
    assert image.dtype == torch.uint8
    assert boxes.dtype == torch.float32
    assert boxes.shape == (len(labels), 4)
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= set(range(len(scene[1]["labels"])))
    assert max(height, width) <= (size if isinstance(size, int) else size[1])
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= width).all()
    assert (boxes[:, [1, 3]] <= height).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert torch.equal(scene[0], before[0])
    assert torch.equal(scene[1]["boxes"], before[1])


def marked(height: int = 60, width: int = 80) -> tuple[torch.Tensor, Target]:
    """Black, with one white block that its box fits."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, 10:30, 20:60] = 255
    return image, Target(boxes=torch.tensor([[20.0, 10.0, 60.0, 30.0]]), labels=torch.tensor([3]))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "augmentation",
    [
        NO_AUGMENTATION,
        Augmentation(flip=1.0),
        Augmentation(vertical_flip=1.0, flip=0.0),
        Augmentation(scale=(0.4, 2.5)),
        Augmentation(crop=1.0),
    ],
    ids=["none", "flip", "vertical flip", "scale", "crop"],
)
def test_boxes_follow_the_pixels(augmentation: Augmentation, seed: int):
    with seeded(seed):
        image, target = Pipeline(80, augmentation)(*marked())
    bright = image[0] > 127
    if not len(target["boxes"]):
        return
    rows, columns = bright.any(dim=1).nonzero(), bright.any(dim=0).nonzero()
    extent = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
    torch.testing.assert_close(target["boxes"][0], torch.tensor(extent, dtype=torch.float32), atol=1.5, rtol=0)
    assert target["labels"].tolist() == [3]


def test_no_augmentation_is_the_plain_resize():
    image, target = marked()
    resized, boxes = resize(image, target["boxes"], 40)
    ours, found = Pipeline(40)(image, target)
    assert torch.equal(ours, resized)
    assert torch.equal(found["boxes"], boxes)


def test_photometric_changes_pixels_alone():
    image, target = marked()
    image += 50
    with seeded(1):
        changed, found = Pipeline(80, Augmentation(flip=0, photometric=1))(image, target)
    assert not torch.equal(changed, image)
    assert torch.equal(found["boxes"], target["boxes"])


def test_a_teacher_of_another_size_sees_the_same_colours_and_crop():
    image, target = marked()
    image += 50
    for seed in range(5):
        augmentation = Augmentation(flip=0.5, crop=0.5, scale=(0.7, 1.5), photometric=1)
        with seeded(seed):
            seen = Pipeline(64, augmentation, teacher_scale=2)(image, target)[0]
        with seeded(seed):
            viewed = Pipeline(64, augmentation, teacher_scale=2).viewed(image, target)
        assert torch.equal(viewed.image, seen) and viewed.larger is not None
        smaller = F.resize(viewed.larger, list(viewed.image.shape[-2:]), antialias=True).float()
        assert (smaller - viewed.image.float()).abs().mean() < 1
        assert (viewed.image.float() - image.float().mean((1, 2))[:, None, None]).abs().mean() > 2


@pytest.mark.parametrize("seed", range(20))
def test_corners_say_where_boxes_went(seed: int) -> None:
    """A box that stays whole lies where the corners say, for every flip, crop and size."""
    torch.manual_seed(seed)
    image = torch.randint(0, 255, (3, 120, 180), dtype=torch.uint8)
    boxes = torch.tensor([[60.0, 40.0, 90.0, 70.0], [80.0, 60.0, 120.0, 80.0]])
    pipeline = Pipeline(96, Augmentation(flip=0.5, vertical_flip=0.5, crop=1.0, scale=(0.6, 1.6)))
    seen = pipeline.viewed(image, {"boxes": boxes, "labels": torch.tensor([1, 2])})
    scale = (seen.corners[1] - seen.corners[0]) / torch.tensor([180.0, 120.0])
    points = boxes.reshape(-1, 2, 2) * scale + seen.corners[0]
    expected = torch.cat([points.amin(1), points.amax(1)], 1)
    height, width = seen.image.shape[-2:]
    for label, box in zip(seen.target["labels"].tolist(), seen.target["boxes"], strict=True):
        limits = torch.tensor([width, height, width, height])
        torch.testing.assert_close(box, expected[label - 1].clamp(min=0).minimum(limits), atol=1e-3, rtol=0)
