"""The blur and its parts."""

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from kdet.ops.ssim.matrix_blur import MatrixBlur
from kdet.ops.ssim.padded import Padded
from kdet.ops.ssim.stacked_blur import StackedBlur
from kdet.ops.ssim.windows import blur, border, gaussian
from losses.reference import gaussian_taps, local_mean

SIZES = [(6, 6), (9, 14), (5, 20), (1, 1), (2, 3), (20, 4)]


class Products(TorchFunctionMode):
    """Notes the types of the factors of every matrix product."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.matmul:
            self.dtypes |= {factor.dtype for factor in args}
        return func(*args, **(kwargs or {}))


@pytest.fixture
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def blurs(maps, window):
    """The fast forms for this size: convolutions know the mirrored border only."""
    matrix = [MatrixBlur(maps, window, 1.5)]
    return matrix + [StackedBlur(maps, maps.shape[1], window, 1.5)] * (border(maps.shape[2:], window) == "reflect")


def padded_for(fast: StackedBlur | MatrixBlur, maps: torch.Tensor) -> Padded:
    images, channels, height, width = maps.shape
    padded = Padded(
        maps.new_full((images, channels, height + 2 * fast.margin, width + 2 * fast.margin), 9), fast.margin
    )
    padded.inside.copy_(maps)
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


@pytest.mark.parametrize("margin", [0, 1, 5])
def test_the_border_mirrors_the_inside(margin):
    padded = Padded(torch.rand(2, 3, 7 + 2 * margin, 6 + 2 * margin), margin)
    padded.mirror()
    assert padded.inside.shape == (2, 3, 7, 6)
    assert torch.equal(padded.whole, F.pad(padded.inside, (margin,) * 4, mode="reflect"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [1, 3, 11])
def test_the_fast_blur_is_the_plain_one(size, window):
    maps = torch.rand(2, 3, *size, dtype=torch.float64)
    for fast in blurs(maps, window):
        padded = padded_for(fast, maps)
        padded.mirror()
        torch.testing.assert_close(fast(padded.whole), blur(maps, window, 1.5))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [1, 3, 11])
def test_the_adjoint_is_the_derivative_of_the_plain_blur(size, window):
    maps = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    incoming = torch.rand_like(maps)
    (expected,) = torch.autograd.grad(blur(maps, window, 1.5), maps, incoming)
    for fast in blurs(maps, window):
        torch.testing.assert_close(fast.adjoint(padded_for(fast, incoming)), expected)


@pytest.mark.parametrize("speed", ["high", "medium"])
def test_matrices_are_exact_whatever_the_precision_of_products(speed, matmul_precision):
    """TF32 and bfloat16 products are off by 1e-3, as much as C2; this machine may not have them, so look at both."""
    maps = torch.rand(1, 2, 9, 9)
    exact = blur(maps.double(), 11, 1.5)
    matmul_precision(speed)
    products = Products()
    with products:
        fast = MatrixBlur(maps, 11, 1.5)(maps)
    assert products.dtypes == {torch.float64} and fast.dtype == torch.float32
    torch.testing.assert_close(fast.double(), exact, rtol=0, atol=1e-6)
