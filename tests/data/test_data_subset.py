"""A part of the images is always the same part, and its pixels go with its boxes."""

import numpy as np
import pytest
import torch

from kdet.data import Shapes, ShapesSource, share_of, split_off


@pytest.fixture
def source():
    return ShapesSource(Shapes(images=40, val_images=1, image_size=48), split="train")


def test_a_quarter_is_part_of_the_half_which_is_part_of_all(source):
    quarter, half = share_of(source, 0.25), share_of(source, 0.5)
    assert (len(quarter.index), len(half.index)) == (10, 20)
    assert set(quarter.index.image_ids) < set(half.index.image_ids) < set(source.index.image_ids)
    assert list(quarter.index.image_ids) != sorted(source.index.image_ids)[:10]
    assert share_of(source, 1.0) is source


def test_pixels_and_boxes_of_an_image_stay_together(source):
    part = share_of(source, 0.3)
    for i, image_id in enumerate(part.index.image_ids):
        original = int(np.flatnonzero(source.index.image_ids == image_id)[0])
        assert torch.equal(part.read(i), source.read(original))
        np.testing.assert_array_equal(part.index.objects(i).boxes_xyxy, source.index.objects(original).boxes_xyxy)


def test_a_split_divides_all_images(source):
    rest, held_out = split_off(source, 0.2)
    assert (len(rest.index), len(held_out.index)) == (32, 8)
    assert set(rest.index.image_ids) | set(held_out.index.image_ids) == set(source.index.image_ids)
    again = split_off(source, 0.2)[1]
    np.testing.assert_array_equal(again.index.image_ids, held_out.index.image_ids)


def test_both_parts_have_at_least_one_image(source):
    for share in (0.001, 0.999):
        assert min(len(part.index) for part in split_off(share_of(source, 0.05), share)) == 1
    assert len(share_of(source, 1e-6).index) == 1
