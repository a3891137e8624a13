"""The structural similarity of maps in [0, 1] and its gradient, step by step and without a graph.

Four blurs suffice, of x, y, x² + y² and 2xy, because the two-factor form needs only the sum of the variances. With μ
the blur of x and ν that of y, SSIM = a1/b1 · a2/b2 of

    a1 = 2μν + C1     b1 = μ² + ν² + C1     a2 = blur(2xy) − 2μν + C2     b2 = blur(x² + y²) − μ² − ν² + C2

Whoever calls blurs between the steps, in the way that suits his device.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from kdet.ops.ssim.reference import C1, C2
from kdet.ops.ssim.scale import Normalize

LossAndGradients = tuple[Tensor, list[Tensor]]
"""One number, and its gradient in each student level; no gradients where none are wanted."""


class Options(NamedTuple):
    """Options of the structural loss."""

    normalize: Normalize
    window: int
    sigma: float


class OnePass(NamedTuple):
    """Memory for the steps, any shape; what is overwritten when is the order of the methods."""

    stack: Sequence[Tensor]
    """x, y, x² + y², 2xy, each with its border, if there is one."""
    inside: Sequence[Tensor]
    """x and y without it."""
    gradients: Sequence[Tensor]
    """Three maps without a border."""
    luminance: Sequence[Tensor]
    """a1 and b1."""

    def multiply(self) -> None:
        """Fill the other two of the stack from x and y, plus C1 + C2 each.

        A blur leaves constants as they are, so adding them here saves two passes over every map later.
        """
        x, y, squares, product = self.stack
        both = _constant(C1 + C2, x.dtype, x.device)
        torch.addcmul(both, x, x, out=squares).addcmul_(y, y)
        torch.addcmul(both, x, y, value=2, out=product)

    def similarity(self, blurred: Sequence[Tensor]) -> Tensor:
        """SSIM at each cell from the blurred stack. Leaves b1·b2, SSIM and a1/(b1·b2) where the gradients will be."""
        mean_x, mean_y, b2, a2 = blurred
        a1, b1 = self.luminance
        c1 = _constant(C1, a1.dtype, a1.device)
        torch.addcmul(c1, mean_x, mean_y, value=2, out=a1)
        torch.addcmul(c1, mean_x, mean_x, out=b1).addcmul_(mean_y, mean_y)
        a2.sub_(a1)
        b2.sub_(b1)
        denominator, similarity, f = self.gradients
        torch.mul(b1, b2, out=denominator)
        torch.div(a1, denominator, out=f)
        return torch.mul(f, a2, out=similarity)

    def differentiate(self, blurred: Sequence[Tensor]) -> None:
        """Fill the gradients of Σ SSIM in the blurred maps, after `similarity` of the same maps:

        in μ, half of it     ν·(e − f) − μ·(SSIM/b1 − SSIM/b2)     e = a2/(b1·b2), f = a1/(b1·b2)
        in blur(x² + y²)     −SSIM/b2, here without its sign       its derivative in x is 2x
        in blur(2xy)         f                                     its derivative in x is 2y
        """
        mean_x, mean_y, b2, a2 = blurred
        a1, b1 = self.luminance
        denominator, similarity, f = self.gradients
        e = a2.div_(denominator)
        pull = torch.div(similarity, b1, out=a1)
        to_squares = similarity.div_(b2)
        pull.sub_(to_squares)
        torch.mul(mean_y, e.sub_(f), out=denominator).addcmul_(mean_x, pull, value=-1)

    def gradient(self, unblurred: Sequence[Tensor]) -> Tensor:
        """Half the gradient of Σ SSIM in x, from what the blur's adjoint makes of the gradients."""
        to_mean, to_squares, to_product = unblurred
        (x, y), (part, _) = self.inside, self.luminance
        return torch.addcmul(to_mean, x, to_squares, value=-1, out=part).addcmul_(y, to_product)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept: a GPU waits for its arrival."""
    return torch.tensor(value, dtype=dtype, device=device)
