"""The same blur as `kdet.ops.windows.blur`, taken apart for speed: border, convolution, and the adjoint of both.

Legend: B maps stacked along the batch, C channels, H W size of a map; `margin` cells of border on every side.
"""

from torch import Tensor
from torch.nn import functional as F

from kdet.ops.windows import Border, border, gaussian

_HEIGHT, _WIDTH = 2, 3


class StackedBlur:
    """A separable blur of maps of one size; maps come with their border, gradients go back without one.

    Blur = convolution ∘ border, so the adjoint is folding ∘ full convolution: what reached a border cell is added
    to the cell that it was copied from.
    """

    def __init__(self, like_NCHW: Tensor, channels: int, window: int, sigma: float) -> None:
        self.margin = window // 2
        self.border: Border = border((like_NCHW.shape[_HEIGHT], like_NCHW.shape[_WIDTH]), window)
        weights = gaussian(window, sigma, like_NCHW)
        self._down = weights.view(1, 1, -1, 1).expand(channels, -1, -1, -1).contiguous()
        self._right = weights.view(1, 1, 1, -1).expand(channels, -1, -1, -1).contiguous()

    def interior(self, padded_BCHW: Tensor) -> Tensor:
        """The map without its border, a view."""
        height, width = (side - 2 * self.margin for side in padded_BCHW.shape[_HEIGHT:])
        return padded_BCHW.narrow(_HEIGHT, self.margin, height).narrow(_WIDTH, self.margin, width)

    def fill_border(self, padded_BCHW: Tensor) -> None:
        """Write the border cells from the interior."""
        for axis in (_HEIGHT, _WIDTH):
            for outside, source in _sides(padded_BCHW, axis, self.margin, self.border):
                outside.copy_(source.flip(axis))

    def __call__(self, padded_BCHW: Tensor) -> Tensor:
        """Mean under the window around each interior cell."""
        channels = padded_BCHW.shape[1]
        down = F.conv2d(padded_BCHW, self._down[:channels], groups=channels)
        return F.conv2d(down, self._right[:channels], groups=channels)

    def adjoint(self, gradient_BCHW: Tensor) -> Tensor:
        """The gradient of the maps' interior from the gradient of their blur."""
        channels, reach = gradient_BCHW.shape[1], 2 * self.margin
        down = F.conv2d(gradient_BCHW, self._down[:channels], padding=(reach, 0), groups=channels)
        full = F.conv2d(down, self._right[:channels], padding=(0, reach), groups=channels)
        for axis in (_HEIGHT, _WIDTH):
            for outside, source in _sides(full, axis, self.margin, self.border):
                summed = outside.sum(axis, keepdim=True) if self.border == "replicate" else outside.flip(axis)
                source.narrow(axis, 0, summed.shape[axis]).add_(summed)
        return self.interior(full)


def _sides(padded: Tensor, axis: int, margin: int, kind: Border) -> list[tuple[Tensor, Tensor]]:
    """Both border strips of an axis, each with the cells it repeats (flipped where mirrored)."""
    last = padded.shape[axis] - 1
    before, after = padded.narrow(axis, 0, margin), padded.narrow(axis, last + 1 - margin, margin)
    if kind == "reflect":
        return [
            (before, padded.narrow(axis, margin + 1, margin)),
            (after, padded.narrow(axis, last - 2 * margin, margin)),
        ]
    first_cell, last_cell = padded.narrow(axis, margin, 1), padded.narrow(axis, last - margin, 1)
    return [(before, first_cell.expand_as(before)), (after, last_cell.expand_as(after))]
