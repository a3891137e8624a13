"""Mean structural dissimilarity of two maps with its gradient in one pass: `kdet.ops.similarity` made fast.

Since the loss is a single number, its gradient map is computed along with its value, and the backward pass only
multiplies: one map is kept instead of a dozen. Four blurs suffice, of S, T, S² + T² and S·T, because the two-factor
form needs only the sum of the variances. The work goes through the caches a few channels at a time.

Legend: N images, C channels, H W height and width. "Chunk": some images × some channels of a level.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdet.ops.matrix_blur import MAX_SIDE, MatrixBlur
from kdet.ops.min_max import Range, range_of, through_channel_range, through_image_range
from kdet.ops.padded import Padded
from kdet.ops.scale import Normalize
from kdet.ops.scratch import Scratch
from kdet.ops.similarity import C1, C2
from kdet.ops.stacked_blur import StackedBlur
from kdet.ops.windows import border

CHUNK_CELLS_PER_THREAD = 2**17
"""Most entries of one map in a chunk on the CPU: a dozen such maps fit the caches, of which each core has its own."""
_MOST_THREADS = 4
"""What more threads add to a chunk would be mere memory."""
_CHUNK_CELLS_ELSEWHERE = 2**26
"""Accelerators take larger bites."""
_LANES = 16
"""Channels per chunk are a multiple of this, so that vector registers stay full."""


class _Dissimilarity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, normalize: Normalize, window: int, sigma: float, wants_grad: bool
    ) -> Tensor:
        ctx.options = (normalize, window, sigma, wants_grad)
        ctx.save_for_backward(student, teacher)
        loss, ctx.gradient = _loss_and_gradient(student, teacher, *ctx.options)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The gradient is scaled where it lies and given away: a second map of this size would cost more in page
        # faults than the multiplication. Only a second pass through a retained graph has to compute it again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            _, gradient = _loss_and_gradient(*ctx.saved_tensors, *ctx.options)
        assert gradient is not None, "backward runs only where a gradient was wanted"
        return gradient.mul_(grad_outputs[0] * (-1 / gradient.numel())), None, None, None, None, None


def mean_dissimilarity(student: Tensor, teacher: Tensor, normalize: Normalize, window: int, sigma: float) -> Tensor:
    """Mean of (1 − SSIM) / 2 over N×C×H×W maps, rescaled by their ranges; differentiable once, in the student."""
    wants_grad = student.requires_grad and torch.is_grad_enabled()
    return _Dissimilarity.apply(student, teacher, normalize, window, sigma, wants_grad)  # pyright: ignore[reportReturnType]


def _loss_and_gradient(
    student: Tensor, teacher: Tensor, normalize: Normalize, window: int, sigma: float, wants_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss, and the gradient of half the sum of the similarities."""
    student_range, teacher_range = range_of(student, normalize), range_of(teacher, normalize)
    gradient = torch.empty_like(student) if wants_grad else None
    blur, scratch = _blur_for(student, window, sigma), Scratch(student)
    workspaces: dict[torch.Size, _Workspace] = {}
    sums: list[Tensor] = []
    for chunk in _chunks(student):
        size = student[chunk].shape
        if size not in workspaces:
            workspaces[size] = _Workspace(scratch, blur, size)
        work = workspaces[size]
        own, other = student_range and student_range.of(*chunk), teacher_range and teacher_range.of(*chunk)
        work.load((student[chunk], own), (teacher[chunk], other))
        total, moments = work.similarity()
        sums.append(total)
        if gradient is not None:
            part = work.gradient(moments)
            if own is not None:
                part.mul_(own.factor)
                if normalize == "channel":
                    through_channel_range(part, work.student, own)
            gradient[chunk].copy_(part)
    if gradient is not None and student_range is not None and normalize == "sample":
        through_image_range(gradient, student, student_range)
    return (student.numel() - torch.stack(sums).sum()) / (2 * student.numel()), gradient


_Blur = StackedBlur | MatrixBlur


def _blur_for(features_NCHW: Tensor, window: int, sigma: float) -> "_Blur":
    height, width = features_NCHW.shape[2:]
    small = max(height, width) <= MAX_SIDE
    if small or not features_NCHW.is_cpu or border((height, width), window) == "replicate":
        return MatrixBlur(features_NCHW, window, sigma)
    return StackedBlur(features_NCHW, features_NCHW.shape[1], window, sigma)


def _chunks(features_NCHW: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images × channels, a few at a time."""
    num_images, num_channels, height, width = features_NCHW.shape
    cells = CHUNK_CELLS_PER_THREAD * min(torch.get_num_threads(), _MOST_THREADS)
    budget = (cells if features_NCHW.is_cpu else _CHUNK_CELLS_ELSEWHERE) // (height * width)
    channels = min(num_channels, max(_LANES, budget // _LANES * _LANES))
    images = max(1, budget // channels)
    for first_image in range(0, num_images, images):
        for first_channel in range(0, num_channels, channels):
            yield slice(first_image, first_image + images), slice(first_channel, first_channel + channels)


class _Moments(NamedTuple):
    """What the gradient still needs of a chunk's blurred maps; each is overwritten there."""

    mean_x: Tensor
    mean_y: Tensor
    a2: Tensor
    b2: Tensor


class _Workspace:
    """Memory for a chunk, with its views. Chunks of one size take turns in it, so that it stays in the caches.

    With μ the blur of x, ν that of y, SSIM = a1/b1 · a2/b2 of
        a1 = 2μν + C1     b1 = μ² + ν² + C1     a2 = blur(2xy) − 2μν + C2     b2 = blur(x² + y²) − μ² − ν² + C2
    """

    def __init__(self, scratch: Scratch, blur: _Blur, size_NCHW: torch.Size) -> None:
        images, channels, height, width = size_NCHW
        padded_hw = height + 2 * blur.margin, width + 2 * blur.margin
        self._blur = blur
        self._stack = scratch("stack", 4 * images, channels, *padded_hw)
        self._inputs = Padded(self._stack[: 2 * images], blur.margin)
        self.student, self._teacher = self._inputs.inside.chunk(2)
        self._gradients = Padded(scratch("gradients", 3 * images, channels, *padded_hw), blur.margin)
        self._a1, self._b1 = scratch("luminance", 2 * images, channels, height, width).chunk(2)
        self._c1, self._c1_and_c2 = (_constant(c, self._stack.dtype, self._stack.device) for c in (C1, C1 + C2))

    def load(self, student: tuple[Tensor, Range | None], teacher: tuple[Tensor, Range | None]) -> None:
        """Write what is to be blurred, one behind the other: x, y, x² + y² + C1 + C2, 2xy + C1 + C2, with borders.

        A blur leaves constants as they are, so adding them here saves two passes over every map later.
        """
        for inside, (features, own) in ((self.student, student), (self._teacher, teacher)):
            _copy(inside, features)
            if own is not None:
                inside.sub_(own.lo).mul_(own.factor)
        self._inputs.mirror()
        x, y, squares, product = self._stack.chunk(4)
        torch.addcmul(self._c1_and_c2, x, x, out=squares).addcmul_(y, y)
        torch.addcmul(self._c1_and_c2, x, y, value=2, out=product)

    def similarity(self) -> tuple[Tensor, _Moments]:
        """Σ SSIM. Leaves b1·b2, SSIM and a1/(b1·b2) where the gradients will be."""
        mean_x, mean_y, b2, a2 = self._blur(self._stack).chunk(4)
        torch.addcmul(self._c1, mean_x, mean_y, value=2, out=self._a1)
        torch.addcmul(self._c1, mean_x, mean_x, out=self._b1).addcmul_(mean_y, mean_y)
        a2.sub_(self._a1)
        b2.sub_(self._b1)
        denominator, similarity, f = self._gradients.inside.chunk(3)
        torch.mul(self._b1, b2, out=denominator)
        torch.div(self._a1, denominator, out=f)
        return torch.mul(f, a2, out=similarity).sum(), _Moments(mean_x, mean_y, a2, b2)

    def gradient(self, moments: _Moments) -> Tensor:
        """Half the gradient of Σ SSIM in x, by way of the blurred maps. The derivative of SSIM

        in μ, half of it     ν·(e − f) − μ·(SSIM/b1 − SSIM/b2)     e = a2/(b1·b2), f = a1/(b1·b2)
        in blur(x² + y²)     −SSIM/b2, here without its sign       its derivative in x is 2x
        in blur(2xy)         f                                     its derivative in x is 2y
        """
        mean_x, mean_y, a2, b2 = moments
        denominator, similarity, f = self._gradients.inside.chunk(3)
        e = a2.div_(denominator)
        pull = torch.div(similarity, self._b1, out=self._a1)
        to_squares = similarity.div_(b2)
        pull.sub_(to_squares)
        torch.mul(mean_y, e.sub_(f), out=denominator).addcmul_(mean_x, pull, value=-1)
        to_mean, to_squares, to_product = self._blur.adjoint(self._gradients).chunk(3)
        part = torch.addcmul(to_mean, self.student, to_squares, value=-1, out=self._a1)
        return part.addcmul_(self._teacher, to_product)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept: a GPU waits for its arrival."""
    return torch.tensor(value, dtype=dtype, device=device)


def _copy(inside: Tensor, features: Tensor) -> None:
    """Channels that lie a multiple of 4 KiB apart evict each other from the first cache: eight at a time fit."""
    crowded = features.is_cpu and features.stride(1) * features.element_size() % 4096 == 0
    step = 8 if crowded else features.shape[1]
    for to, source in zip(inside.split(step, 1), features.split(step, 1), strict=True):
        to.copy_(source)
