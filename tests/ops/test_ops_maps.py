"""Rescale, resize, reduce, and the scratch memory."""

import math
from itertools import product

import pytest
import torch

from kdet.ops.align import resize_like
from kdet.ops.reduce import reduce_map
from kdet.ops.segments import segment_log_softmax
from kdet.ops.ssim.scale import rescale
from kdet.ops.ssim.scratch import Scratch


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


def ramp(cells: int, stride: float) -> torch.Tensor:
    """The middle of each cell along one axis, in pixels."""
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * stride


def ramps(canvas_hw: tuple[int, int], stride: float) -> torch.Tensor:
    """A 1×2×H×W map that holds y and x of the middle of each of its cells, as many as cover the canvas."""
    height, width = (math.ceil(side / stride) for side in canvas_hw)
    y, x = torch.meshgrid(ramp(height, stride), ramp(width, stride), indexing="ij")
    return torch.stack([y, x])[None].float()


def between_outermost_middles(expected: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """What can be known from a map of ramps: beyond the middles of its outermost cells, their values."""
    lowest, highest = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return expected.clamp(lowest, highest)


@pytest.mark.parametrize("canvas_hw", [(96, 160), (800, 1088), (32, 416), (96, 96)])
def test_the_teachers_cells_land_where_they_are(canvas_hw):
    """Also where the canvas is no multiple of a stride, so that one of the two maps reaches farther beyond it."""
    for theirs, ours in product((4, 6.4, 8, 9.6, 14, 16, 32, 38.4, 64, 128), (8, 16, 32, 64, 128)):
        teacher, student = ramps(canvas_hw, theirs), ramps(canvas_hw, ours)
        found = resize_like(teacher, student, (theirs / ours,) * 2)
        # Of a map that was averaged first, the last cell may be the mean of fewer.
        most = ours / 4 if theirs / ours <= 0.25 else 0.01
        assert found.shape == student.shape
        assert (found - between_outermost_middles(student, teacher)).abs().max() <= most, (theirs, ours)


def test_sides_are_resized_each_by_its_own_ratio():
    teacher, student = ramps((96, 160), 16), ramps((96, 160), 8)
    teacher[:, 0] *= 0.75  # what the teacher's cell measures along the height is 12 pixels of the student's
    found = resize_like(teacher, student, (1.5, 2.0))
    torch.testing.assert_close(found, between_outermost_middles(student, teacher))


def test_a_finer_map_is_averaged_and_not_sampled():
    """Stripes of a pixel that a sample of every fourth cell would take for a plain surface."""
    stripes = torch.tensor([4.0, 0.0, 0.0, 0.0]).repeat(6).expand(1, 1, 8, 24)
    found = resize_like(stripes, torch.zeros(1, 1, 2, 6), (0.25, 0.25))
    torch.testing.assert_close(found, torch.ones(1, 1, 2, 6))


def test_a_map_of_the_same_cells_is_left_alone_and_one_of_others_is_cut_or_carried_on():
    teacher = torch.rand(1, 4, 6, 8)
    assert resize_like(teacher, teacher[:, :2], (1.0, 1.0)) is teacher
    torch.testing.assert_close(resize_like(teacher, torch.zeros(1, 1, 5, 7), (1.0, 1.0)), teacher[..., :5, :7])
    longer = resize_like(teacher, torch.zeros(1, 1, 7, 8), (1.0, 1.0))
    torch.testing.assert_close(longer, torch.cat([teacher, teacher[..., 5:, :]], dim=2))


def test_resized_maps_are_float32_at_least():
    student = torch.zeros(1, 1, 6, 6)
    assert resize_like(torch.rand(1, 2, 3, 3).bfloat16(), student, (2.0, 2.0)).dtype == torch.float32
    assert resize_like(torch.rand(1, 2, 3, 3).double(), student, (2.0, 2.0)).dtype == torch.float64


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
