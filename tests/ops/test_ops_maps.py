"""Rescale, resize, reduce, and the scratch memory."""

import pytest
import torch
from torch.nn import functional as F

from kdet.ops.align import resize_like
from kdet.ops.reduce import reduce_map
from kdet.ops.scale import rescale
from kdet.ops.scratch import Scratch
from kdet.ops.segments import segment_log_softmax


@pytest.mark.parametrize(("normalize", "axes"), [("channel", (2, 3)), ("sample", (1, 2, 3))])
def test_each_range_becomes_zero_to_one(normalize, axes):
    features = torch.randn(2, 3, 5, 6) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1)
    scaled = rescale(features, normalize)
    torch.testing.assert_close(scaled.amin(axes), torch.zeros_like(scaled.amin(axes)))
    torch.testing.assert_close(scaled.amax(axes), torch.ones_like(scaled.amax(axes)))


def test_images_do_not_influence_each_other():
    features = torch.randn(2, 3, 5, 6)
    features[1] *= 1e4
    for normalize in ("channel", "sample"):
        torch.testing.assert_close(rescale(features, normalize)[:1], rescale(features[:1], normalize))


def test_noise_on_a_constant_channel_stays_small():
    features = torch.rand(1, 4, 8, 8)
    features[:, 0] = 0.5 + 1e-6 * features[:, 0]
    features[:, 1:3] = 0
    scaled = rescale(features, "channel")
    assert scaled[:, 0].max() < 1e-3 and scaled[:, 3].max() == 1 and not scaled[:, 1:3].any()


def test_no_rescale_returns_the_map_itself():
    features = torch.rand(1, 2, 3, 3)
    assert rescale(features, None) is features


def test_resize_is_bilinear_and_leaves_equal_sizes_alone():
    teacher, student = torch.rand(1, 4, 6, 8), torch.rand(1, 2, 3, 4)
    assert resize_like(teacher, teacher) is teacher
    expected = F.interpolate(teacher, (3, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize_like(teacher, student), expected)


def test_reductions_by_hand():
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert reduce_map(values).item() == pytest.approx(7 / 4)
    assert reduce_map(values, "l2").item() == pytest.approx(5 / 2 / 2)


def test_the_norm_of_zeros_has_no_gradient():
    values = torch.zeros(2, 3, requires_grad=True)
    reduce_map(values, "l2").backward()
    assert values.grad is not None and not values.grad.any()


def test_softmax_inside_each_group():
    scores = torch.randn(7, dtype=torch.float64)
    index = torch.tensor([2, 0, 2, 2, 0, 5, 5])
    logs = segment_log_softmax(scores, index, 6)
    for group in (0, 2, 5):
        torch.testing.assert_close(logs[index == group], scores[index == group].log_softmax(0))


def test_scratch_hands_out_the_same_memory_again():
    scratch = Scratch(torch.zeros(1, dtype=torch.float64))
    first = scratch("a", 2, 3, 4, 5)
    assert first.shape == (2, 3, 4, 5) and first.dtype == torch.float64
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert scratch("a", 1, 3, 4, 5).data_ptr() == first.data_ptr()
    assert scratch("b", 1, 3, 4, 5).data_ptr() != first.data_ptr()
