"""Mean structural dissimilarity of two maps with its gradient in one pass: `kdet.ops.similarity` made fast.

Since the loss is a single number, its gradient map is computed along with its value, and the backward pass only
multiplies: one map is kept instead of a dozen. Four blurs suffice, of S, T, S² + T² and S·T, because the two-factor
form needs only the sum of the variances. The work goes through the caches a few channels at a time.

Legend: N images, C channels, H W height and width. "Chunk": some images × some channels of a level.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdet.ops.matrix_blur import MAX_SIDE, MatrixBlur
from kdet.ops.scale import Normalize, value_range
from kdet.ops.scratch import Scratch
from kdet.ops.similarity import C1, C2
from kdet.ops.stacked_blur import StackedBlur

CHUNK_CELLS = {"cpu": 2**18}
"""Most entries of one map in a chunk: a dozen such maps fit the caches. Accelerators take larger bites."""
CHUNK_CELLS_ELSEWHERE = 2**26
_LANES = 16
"""Channels per chunk are a multiple of this, so that vector registers stay full."""


class _Range(NamedTuple):
    """The min-max rescale x = (X − lo) · factor of one map; N×C×1×1 each, or N×1×1×1 for the range of an image."""

    lo: Tensor
    factor: Tensor
    top: Tensor
    """Where the highest entry arrives: 1, or less where the floor sets the factor."""
    believed: Tensor
    """1 where the range sets the factor, 0 where the floor does."""

    def of(self, images: slice, channels: slice) -> "_Range":
        """The part that belongs to a chunk."""
        return _Range(*(t[images] if t.shape[1] == 1 else t[images, channels] for t in self))


class _Dissimilarity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, normalize: Normalize, window: int, sigma: float, wants_grad: bool
    ) -> Tensor:
        loss, gradient = _loss_and_gradient(student, teacher, normalize, window, sigma, wants_grad)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None, None


def mean_dissimilarity(student: Tensor, teacher: Tensor, normalize: Normalize, window: int, sigma: float) -> Tensor:
    """Mean of (1 − SSIM) / 2 over N×C×H×W maps, rescaled by their ranges; differentiable once, in the student."""
    wants_grad = student.requires_grad and torch.is_grad_enabled()
    return _Dissimilarity.apply(student, teacher, normalize, window, sigma, wants_grad)  # pyright: ignore[reportReturnType]


def _loss_and_gradient(
    student: Tensor, teacher: Tensor, normalize: Normalize, window: int, sigma: float, wants_grad: bool
) -> tuple[Tensor, Tensor | None]:
    student_range, teacher_range = _range(student, normalize), _range(teacher, normalize)
    gradient = torch.empty_like(student) if wants_grad else None
    blur = _blur_for(student, window, sigma)
    scratch, sums = Scratch(student), list[Tensor]()
    for chunk in _chunks(student):
        own, other = student_range and student_range.of(*chunk), teacher_range and teacher_range.of(*chunk)
        stack = _stack((student[chunk], own), (teacher[chunk], other), blur, scratch)
        total, part = _similarity_and_gradient(stack, blur, scratch, wants_grad)
        sums.append(total)
        if gradient is not None and part is not None:
            part.mul_(-1 / student.numel() if own is None else own.factor * (-1 / student.numel()))
            if own is not None and normalize == "channel":
                _through_range(part, blur.interior(stack[: len(part)]), own, (2, 3))
            gradient[chunk].copy_(part)
    if gradient is not None and student_range is not None and normalize == "sample":
        _through_image_range(gradient, student, student_range)
    return (student.numel() - torch.stack(sums).sum()) / (2 * student.numel()), gradient


_Blur = StackedBlur | MatrixBlur


def _blur_for(features_NCHW: Tensor, window: int, sigma: float) -> "_Blur":
    if max(features_NCHW.shape[2:]) <= MAX_SIDE:
        return MatrixBlur(features_NCHW, window, sigma)
    return StackedBlur(features_NCHW, features_NCHW.shape[1], window, sigma)


def _chunks(features_NCHW: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images × channels, a few at a time."""
    num_images, num_channels, height, width = features_NCHW.shape
    budget = CHUNK_CELLS.get(features_NCHW.device.type, CHUNK_CELLS_ELSEWHERE) // (height * width)
    channels = min(num_channels, max(_LANES, budget // _LANES * _LANES))
    images = max(1, budget // channels)
    for first_image in range(0, num_images, images):
        for first_channel in range(0, num_channels, channels):
            yield slice(first_image, first_image + images), slice(first_channel, first_channel + channels)


def _range(features_NCHW: Tensor, normalize: Normalize) -> _Range | None:
    if normalize is None:
        return None
    lo, hi, floor = value_range(features_NCHW, normalize)
    extent = hi - lo
    factor = extent.maximum(floor).reciprocal()
    return _Range(lo, factor, extent * factor, (extent > floor).to(extent))


def _stack(
    student: tuple[Tensor, _Range | None], teacher: tuple[Tensor, _Range | None], blur: _Blur, scratch: Scratch
) -> Tensor:
    """What is to be blurred, one behind the other: x, y, x² + y² + C1 + C2, 2xy + C1 + C2, each with its border.

    A blur leaves constants as they are, so adding them here saves two passes over every map later.
    """
    images, channels, height, width = student[0].shape
    stack = scratch("stack", 4 * images, channels, height + 2 * blur.margin, width + 2 * blur.margin)
    x, y, squares, product = stack.chunk(4)
    for padded, (features, own) in ((x, student), (y, teacher)):
        inside = blur.interior(padded).copy_(features)
        if own is not None:
            inside.sub_(own.lo).mul_(own.factor)
    blur.fill_border(stack[: 2 * images])
    constants = stack.new_tensor(C1 + C2)
    torch.addcmul(constants, x, x, out=squares).addcmul_(y, y)
    torch.addcmul(constants, x, y, value=2, out=product)
    return stack


def _similarity_and_gradient(
    stack: Tensor, blur: _Blur, scratch: Scratch, wants_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Σ SSIM of a chunk, and half its gradient in x.

    With μ the blur of x, ν that of y, SSIM = a1/b1 · a2/b2 of
        a1 = 2μν + C1     b1 = μ² + ν² + C1     a2 = blur(2xy) − 2μν + C2     b2 = blur(x² + y²) − μ² − ν² + C2
    """
    mean_x, mean_y, b2, a2 = blur(stack).chunk(4)
    c1 = stack.new_tensor(C1)
    a1, b1 = scratch("a1", *a2.shape), scratch("b1", *a2.shape)
    torch.addcmul(c1, mean_x, mean_y, value=2, out=a1)
    torch.addcmul(c1, mean_x, mean_x, out=b1).addcmul_(mean_y, mean_y)
    a2.sub_(a1)
    b2.sub_(b1)
    luminance, structure = a1.div_(b1), a2.div_(b2)
    images, *size_chw = a1.shape
    gradients = scratch("gradients", 3 * images, *size_chw)
    total = torch.mul(luminance, structure, out=gradients[:images]).sum()
    if not wants_grad:
        return total, None
    _moment_gradients(gradients, (mean_x, mean_y), (luminance, b1), (structure, b2))
    to_mean, to_squares, to_product = blur.adjoint(gradients).chunk(3)
    x, y, _, _ = (blur.interior(part) for part in stack.chunk(4))
    return total, to_mean.addcmul_(x, to_squares, value=-1).addcmul_(y, to_product)


def _moment_gradients(
    gradients: Tensor, means: tuple[Tensor, Tensor], first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> None:
    """Write the derivatives of SSIM = r1·r2 in the blurred maps, one behind the other.

    r1 = a1/b1 and r2 = a2/b2 come as `first` = (r1, b1) and `second` = (r2, b2), and are overwritten.

    in μ, half of it     ν·(e − f) − μ·(r1·e − r2·f)          e = r2/b1, f = r1/b2
    in blur(x² + y²)     −r2·f, here without its sign         its derivative in x is 2x
    in blur(2xy)         f                                    its derivative in x is 2y
    """
    (mean_x, mean_y), (r1, b1), (r2, b2) = means, first, second
    to_mean, to_squares, f = gradients.chunk(3)
    e = torch.div(r2, b1, out=b1)
    torch.div(r1, b2, out=f)
    torch.mul(r2, f, out=to_squares)
    pull = r1.mul_(e).sub_(to_squares)
    torch.mul(mean_y, e.sub_(f), out=to_mean).addcmul_(mean_x, pull, value=-1)


def _through_image_range(gradient: Tensor, features: Tensor, own: _Range) -> None:
    """`_through_range` for the range of whole images, an image at a time to spare memory."""
    for image in range(len(features)):
        one = slice(image, image + 1)
        part = own.of(one, slice(None))
        _through_range(gradient[one], (features[one] - part.lo).mul_(part.factor), part, (1, 2, 3))


def _through_range(gradient: Tensor, rescaled: Tensor, own: _Range, axes: tuple[int, ...]) -> None:
    """Add in place what reaches the lowest and the highest entries because they set the range; ties share equally.

    x = (X − lo)·factor. Every x falls as lo rises and, where the range sets the factor, shrinks towards 0 as hi rises.
    """
    work = gradient * rescaled
    stretch = work.sum(axes, keepdim=True) * own.believed
    shift = gradient.sum(axes, keepdim=True)
    for end, share in ((torch.zeros_like(own.top), stretch - shift), (own.top, -stretch)):
        at_end = torch.eq(rescaled, end, out=work)
        gradient.addcmul_(at_end, share / at_end.sum(axes, keepdim=True))
