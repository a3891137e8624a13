"""The blur and its parts."""

import pytest
import torch

from kdet.ops.matrix_blur import MatrixBlur
from kdet.ops.stacked_blur import StackedBlur
from kdet.ops.windows import blur, border, gaussian
from losses.reference import gaussian_taps, local_mean

SIZES = [(6, 6), (9, 14), (5, 20), (1, 1), (2, 3), (20, 4)]


def blurs(maps, window):
    """Both fast forms."""
    return [StackedBlur(maps, maps.shape[1], window, 1.5), MatrixBlur(maps, window, 1.5)]


def padded_for(stacked: StackedBlur | MatrixBlur, maps: torch.Tensor) -> torch.Tensor:
    images, channels, height, width = maps.shape
    padded = maps.new_zeros(images, channels, height + 2 * stacked.margin, width + 2 * stacked.margin)
    stacked.interior(padded).copy_(maps)
    stacked.fill_border(padded)
    return padded


def test_the_window_sums_to_one_and_is_symmetric():
    weights = gaussian(11, 1.5, torch.zeros((), dtype=torch.float64))
    assert weights.sum().item() == pytest.approx(1) and torch.equal(weights, weights.flip(0))
    assert weights.tolist() == pytest.approx(gaussian_taps(11, 1.5))


def test_short_sides_repeat_their_edge_on_both_axes():
    assert border((6, 6), 11) == "reflect"
    assert border((5, 200), 11) == border((200, 5), 11) == "replicate"
    assert border((2, 2), 3) == "reflect"


@pytest.mark.parametrize("size", [(6, 7), (3, 8)])
def test_equals_the_loop(size):
    maps = torch.rand(1, 2, *size, dtype=torch.float64)
    blurred = blur(maps, 11, 1.5)
    for channel in range(2):
        values = maps[0, channel].tolist()
        for row in range(size[0]):
            for column in range(size[1]):
                expected = local_mean(values, row, column, gaussian_taps(11, 1.5))
                assert blurred[0, channel, row, column].item() == pytest.approx(expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [1, 3, 11])
def test_the_fast_blur_is_the_plain_one(size, window):
    maps = torch.rand(2, 3, *size, dtype=torch.float64)
    for fast in blurs(maps, window):
        torch.testing.assert_close(fast(padded_for(fast, maps)), blur(maps, window, 1.5))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [1, 3, 11])
def test_the_adjoint_is_the_derivative_of_the_plain_blur(size, window):
    maps = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    incoming = torch.rand_like(maps)
    (expected,) = torch.autograd.grad(blur(maps, window, 1.5), maps, incoming)
    for fast in blurs(maps, window):
        torch.testing.assert_close(fast.adjoint(incoming), expected)
