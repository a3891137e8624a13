"""Sizes on each canvas, worked out by hand."""

import pytest
import torch

from kdet.errors import InputError
from kdet.ops.canvas import canvas_hw, described, resized_hw, teacher_canvas
from kdet.types import Batch


@pytest.mark.parametrize(
    ("canvas", "image_size", "size_hw", "expected"),
    [
        ("letterbox", 640, (480, 640), (480, 640)),
        ("letterbox", 640, (1080, 1920), (360, 640)),  # a third
        ("letterbox", 320, (1000, 400), (320, 128)),  # 0.32 of it
        ("letterbox", 128, (60, 80), (96, 128)),  # made larger, as the libraries do
        ("letterbox", 640, (1, 5000), (1, 640)),  # 0.128 px high
        ("stretch", 320, (480, 640), (320, 320)),
        ("stretch", 320, (1, 5000), (320, 320)),
        ("pad", 640, (1080, 1920), (360, 640)),
        ("pad", (800, 1333), (480, 640), (800, 1066)),  # 5/3 of it
        ("pad", (800, 1333), (1, 5000), (1, 1333)),
    ],
)
def test_an_image_of_any_shape_has_a_size(canvas, image_size, size_hw, expected):
    assert resized_hw(size_hw, image_size, canvas) == expected


def test_a_factor_multiplies_both_sides():
    assert resized_hw((60, 80), 128, "letterbox", 0.5) == (48, 64)
    assert resized_hw((60, 80), 128, "stretch", 1.5) == (192, 192)
    assert resized_hw((60, 80), 1, "stretch", 0.5) == (1, 1)


def test_squares_are_as_large_as_their_side_in_steps_of_32():
    assert canvas_hw(640, "letterbox") == canvas_hw(640, "stretch") == (640, 640)
    assert canvas_hw(100, "letterbox") == (128, 128)
    assert canvas_hw(640, "pad") is canvas_hw((800, 1333), "pad") is None


@pytest.mark.parametrize("canvas", ["letterbox", "stretch"])
def test_a_square_has_one_side(canvas):
    for refuse in (lambda: canvas_hw((800, 1333), canvas), lambda: resized_hw((9, 9), (800, 1333), canvas)):
        with pytest.raises(InputError, match=rf"\[800, 1333\].*canvas {canvas} is a square; give its side") as caught:
            refuse()
        assert "\n" not in str(caught.value)


def test_a_canvas_in_words():
    assert described(128, "letterbox") == "letterbox 128×128"
    assert described(300, "stretch") == "stretch 320×320 with images of 300 px"
    assert described(128, "pad") == "pad, long side 128, to a multiple of 32"
    assert described((800, 1333), "pad") == "pad, short side 800, limit 1333, to a multiple of 32"


def test_a_line_of_pixels_keeps_a_pixel_for_a_teacher_of_smaller_images():
    images = teacher_canvas([torch.ones(3, 1, 64)], [(1, 64)], (32, 64), 0.25)
    assert images.shape == (1, 3, 32, 32)
    batch = Batch(
        images=torch.zeros(1, 3, 128, 64),
        sizes_hw=[(1, 64)],
        original_sizes_hw=[(1, 64)],
        image_ids=[0],
        teacher_images=images,
    )
    assert batch.for_teacher().sizes_hw == [(1, 32)]
