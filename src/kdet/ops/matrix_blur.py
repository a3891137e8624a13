"""The blur of `kdet.ops.windows.blur` on small maps, as two matrix products; same interface as `StackedBlur`.

With the border rule inside its matrices a map needs no margin, and the adjoint is the transpose. A map of 12×12 with
its margin of five is 3.4 times as large, one of 1×1 121 times: on the deep levels the margin is most of the work.

Legend: B maps stacked along the batch, C channels, H W size of a map.
"""

import torch
from torch import Tensor

from kdet.ops.padded import Padded
from kdet.ops.windows import Border, border, gaussian

MAX_SIDE = 24
"""Larger maps are faster by convolution."""


class MatrixBlur:
    """A separable blur of maps of one size, H×H and W×W."""

    margin = 0

    def __init__(self, like_NCHW: Tensor, window: int, sigma: float) -> None:
        height, width = like_NCHW.shape[2:]
        kind = border((height, width), window)
        exact = like_NCHW if _products_are_exact(like_NCHW) else like_NCHW.new_empty(0, dtype=torch.float64)
        weights = gaussian(window, sigma, exact)
        self._down, self._right = (_matrix(side, weights, kind) for side in (height, width))

    def __call__(self, maps_BCHW: Tensor) -> Tensor:
        """Mean under the window around each cell."""
        return _apply(maps_BCHW, self._down, self._right)

    def adjoint(self, gradient: Padded) -> Tensor:
        """The gradient of the maps from the gradient of their blur."""
        return _apply(gradient.whole, self._down.T, self._right.T)


def _products_are_exact(like: Tensor) -> bool:
    """Whether a float32 product is one: `torch.set_float32_matmul_precision` lets it round to TF32 or bfloat16.

    A local variance, the difference of two blurs, does not survive that. Float64 is out of the setting's reach.
    """
    if like.device.type == "mps":  # has neither float64 nor the shortened products
        return True
    settings = torch.backends.cuda.matmul if like.is_cuda else torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    return settings.fp32_precision in ("none", "ieee")


def _matrix(side: int, weights: Tensor, kind: Border) -> Tensor:
    """Row i holds the weight of each cell of an axis in the blurred cell i."""
    margin, last = len(weights) // 2, side - 1
    cells = torch.arange(side, device=weights.device)[:, None] + torch.arange(
        -margin, margin + 1, device=weights.device
    )
    if kind == "reflect":
        cells = cells.abs()
        cells = torch.where(cells > last, 2 * last - cells, cells)
    matrix = weights.new_zeros(side, side)
    return matrix.scatter_add_(1, cells.clamp(0, last), weights.expand(side, -1))


def _apply(maps_BCHW: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Channels stay innermost, as channels-last maps have them: nothing is copied."""
    rows_BHWC = torch.matmul(right, maps_BCHW.to(right.dtype).permute(0, 2, 3, 1))
    b, h, w, c = rows_BHWC.shape
    columns = torch.matmul(down, rows_BHWC.reshape(b, h, w * c)).view(b, h, w, c).permute(0, 3, 1, 2)
    return columns.to(maps_BCHW.dtype)
