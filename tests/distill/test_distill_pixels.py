"""The fit that tells a normalised batch from other pixels."""

from collections.abc import Callable

import pytest
import torch
from distill_cases import batch, student
from torch import Tensor

from fakes import DETECTOR_NAMES, tiny
from kdet.distill.preflight.input_check import SAME, capture_input, r_squared
from kdet.types import Need

MEAN, SCALE = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_each_family_normalises_and_sees_the_same_pixels(name: str) -> None:
    detector, images = student(name), batch(name)
    with capture_input(detector.model) as seen:
        detector.observe(images, frozenset({Need.FEATURES}))
    assert seen.ran and seen.pixels is not None
    assert not torch.equal(seen.pixels, images.images)
    assert r_squared(seen.pixels, images) > 1 - 1e-6


def test_no_hook_stays_behind() -> None:
    model = tiny().model
    with capture_input(model):
        pass
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    "change",
    [
        lambda images: (images - MEAN) / SCALE,
        lambda images: 255 * images.flip(1) - 104,
        lambda images: ((images - MEAN) / SCALE).bfloat16(),
    ],
    ids=["mean and scale", "BGR in 0…255", "bfloat16"],
)
def test_normalisations_are_the_same_pixels(change: Callable[[Tensor], Tensor]) -> None:
    images = batch()
    assert r_squared(change(images.images), images) > SAME


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.flip(3),
        lambda images: images.flip(0),
        lambda images: images.roll(1, dims=3),
        lambda images: images[:2],
        lambda images: torch.zeros_like(images),
        lambda images: torch.nn.functional.avg_pool2d(images, 3, 1, 1),
        lambda images: images[..., ::2, ::2],
    ],
    ids=["flipped", "another order", "moved by a pixel", "fewer images", "blank", "blurred", "smaller"],
)
def test_anything_else_is_not(change: Callable[[Tensor], Tensor]) -> None:
    images = batch()
    assert r_squared(change(images.images), images) < SAME


def test_padding_is_no_pixel() -> None:
    images = batch()
    filled = images.images.clone()
    for image, (h, w) in zip(filled, images.sizes_hw, strict=True):
        image[:, h:], image[:, :, w:] = 7, 7
    assert not torch.equal(filled, images.images)
    assert r_squared(filled, images) > SAME
