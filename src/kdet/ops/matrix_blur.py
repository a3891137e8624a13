"""The blur of `kdet.ops.windows.blur` on small maps, as two matrix products; same interface as `StackedBlur`.

With the border rule inside its matrices a map needs no margin, and the adjoint is the transpose. A map of 12×12 with
its margin of five is 3.4 times as large, one of 1×1 121 times: on the deep levels the margin is most of the work.

Legend: B maps stacked along the batch, C channels, H W size of a map.
"""

import torch
from torch import Tensor

from kdet.ops.windows import Border, border, gaussian

MAX_SIDE = 24
"""Larger maps are faster by convolution."""


class MatrixBlur:
    """A separable blur of maps of one size, H×H and W×W."""

    margin = 0

    def __init__(self, like_NCHW: Tensor, window: int, sigma: float) -> None:
        height, width = like_NCHW.shape[2:]
        kind = border((height, width), window)
        weights = gaussian(window, sigma, like_NCHW)
        self._down, self._right = (_matrix(side, weights, kind) for side in (height, width))

    def interior(self, maps_BCHW: Tensor) -> Tensor:
        """The map itself."""
        return maps_BCHW

    def fill_border(self, maps_BCHW: Tensor) -> None:
        """There is none."""

    def __call__(self, maps_BCHW: Tensor) -> Tensor:
        """Mean under the window around each cell."""
        return _apply(maps_BCHW, self._down, self._right)

    def adjoint(self, gradient_BCHW: Tensor) -> Tensor:
        """The gradient of the maps from the gradient of their blur."""
        return _apply(gradient_BCHW, self._down.T, self._right.T)


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
    rows_BHWC = torch.matmul(right, maps_BCHW.permute(0, 2, 3, 1))
    b, h, w, c = rows_BHWC.shape
    return torch.matmul(down, rows_BHWC.reshape(b, h, w * c)).view(b, h, w, c).permute(0, 3, 1, 2)
