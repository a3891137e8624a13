"""The blur of `kdet.ops.ssim.windows.blur` under a mirrored border, as two convolutions, and its adjoint.

Legend: B maps stacked along the batch, C channels, H W size of a map; `margin` cells of border on every side.
"""

from torch import Tensor
from torch.nn import functional as F

from kdet.ops.ssim.padded import Padded, edges
from kdet.ops.ssim.windows import gaussian


class StackedBlur:
    """A separable blur of maps that come with their border and go without one."""

    def __init__(self, like_NCHW: Tensor, channels: int, window: int, sigma: float) -> None:
        self.margin = window // 2
        weights = gaussian(window, sigma, like_NCHW)
        self._down = weights.view(1, 1, -1, 1).expand(channels, -1, -1, -1).contiguous()
        self._right = weights.view(1, 1, 1, -1).expand(channels, -1, -1, -1).contiguous()

    def __call__(self, padded_BCHW: Tensor) -> Tensor:
        """Mean under the window around each cell inside; the border must be filled."""
        channels = padded_BCHW.shape[1]
        down = F.conv2d(padded_BCHW, self._down[:channels], groups=channels)
        return F.conv2d(down, self._right[:channels], groups=channels)

    def adjoint(self, gradient: Padded) -> Tensor:
        """The gradient of the maps from the gradient of their blur, which is overwritten.

        A mirrored line goes on for ever with a period in which each cell occurs twice, but the two ends once. There
        the blur is a circular convolution with a symmetric window, hence its own adjoint. So with D = diag(½, 1, …,
        1, ½) the adjoint of the blur B is D·B·D⁻¹, and nothing has to be folded back from the border.
        """
        for edge in edges(gradient.inside):
            edge.mul_(2)
        gradient.mirror()
        blurred = self(gradient.whole)
        for edge in edges(blurred):
            edge.mul_(0.5)
        return blurred
