"""The blur of `kdet.ops.ssim.windows.blur` as two matrix products, for small maps and for accelerators.

Same interface as `StackedBlur`. With the border rule inside its matrices a map needs no margin, and the adjoint is the
transpose. A map of 12×12 with its margin of five is 3.4 times as large, one of 1×1 121 times: on the deep levels the
margin is most of the work. An accelerator has the products for nothing, and would wait for each line of a margin.

Legend: B maps stacked along the batch, C channels, H W size of a map.
"""

from functools import lru_cache

import torch
from torch import Tensor

from kdet.ops.ssim.padded import Padded
from kdet.ops.ssim.windows import Border, border, gaussian

MAX_SIDE = 24
"""Larger maps are faster by convolution, on the CPU."""


class MatrixBlur:
    """A separable blur of maps of one size, H×H and W×W."""

    margin = 0

    def __init__(self, like_NCHW: Tensor, window: int, sigma: float) -> None:
        height, width = like_NCHW.shape[2:]
        kind = border((height, width), window)
        dtype = like_NCHW.dtype if _products_are_exact(like_NCHW) else torch.float64
        options = (window, sigma, kind, dtype, like_NCHW.device)
        self._down, self._right = (_matrix(side, *options) for side in (height, width))

    def __call__(self, maps_BCHW: Tensor, out: Tensor | None = None) -> Tensor:
        """Mean under the window around each cell; into `out`, if given: channels-last, and of the products' type."""
        return _apply(maps_BCHW, self._down, self._right, out)

    def transposed(self, maps_BCHW: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient of the maps from the gradient of their blur."""
        return _apply(maps_BCHW, self._down.T, self._right.T, out)

    def adjoint(self, gradient: Padded) -> Tensor:
        """The same, as `StackedBlur` has it."""
        return self.transposed(gradient.whole)

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the products are computed."""
        return self._down.dtype


def _products_are_exact(like: Tensor) -> bool:
    """Whether a float32 product is one: `torch.set_float32_matmul_precision` lets it round to TF32 or bfloat16.

    A local variance, the difference of two blurs, does not survive that. Float64 is out of the setting's reach.
    """
    if like.device.type == "mps":  # has neither float64 nor the shortened products
        return True
    settings = torch.backends.cuda.matmul if like.is_cuda else torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    return settings.fp32_precision in ("none", "ieee")


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _matrix(side: int, window: int, sigma: float, kind: Border, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Row i holds the weight of each cell of an axis in the blurred cell i; kept, for a GPU waits for its arrival."""
    margin, last = window // 2, side - 1
    weights = gaussian(window, sigma, torch.empty(0, dtype=dtype))
    cells = torch.arange(side)[:, None] + torch.arange(-margin, margin + 1)
    if kind == "reflect":
        cells = cells.abs()
        cells = torch.where(cells > last, 2 * last - cells, cells)
    matrix = weights.new_zeros(side, side)
    return matrix.scatter_add_(1, cells.clamp(0, last), weights.expand(side, -1)).to(device)


def _apply(maps_BCHW: Tensor, down: Tensor, right: Tensor, out: Tensor | None) -> Tensor:
    """Channels stay innermost, as channels-last maps have them: nothing is copied."""
    rows_BHWC = torch.matmul(right, maps_BCHW.to(right.dtype).permute(0, 2, 3, 1))
    b, h, w, c = rows_BHWC.shape
    to = None if out is None else out.permute(0, 2, 3, 1).view(b, h, w * c)
    columns = torch.matmul(down, rows_BHWC.reshape(b, h, w * c), out=to)
    return columns.view(b, h, w, c).permute(0, 3, 1, 2).to(maps_BCHW.dtype)
