"""The loss of `kdet.ops.ssim.fused` on a processor: a few channels at a time, which stay in its caches.

Legend: N images, C channels, H W height and width of a level. "Chunk": some images × some channels of a level.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kdet.ops.ssim.matrix_blur import MAX_SIDE, MatrixBlur
from kdet.ops.ssim.min_max import Range, range_of, through_channel_range, through_image_range
from kdet.ops.ssim.one_pass import LossAndGradients, OnePass, Options
from kdet.ops.ssim.padded import Padded
from kdet.ops.ssim.scratch import Scratch
from kdet.ops.ssim.stacked_blur import StackedBlur
from kdet.ops.ssim.windows import border

CHUNK_CELLS_PER_THREAD = 2**17
"""Most entries of one map in a chunk: a dozen such maps fit the caches, of which each core has its own."""
_MOST_THREADS = 4
"""What more threads add to a chunk would be mere memory."""
_LANES = 16
"""Channels per chunk are a multiple of this, so that vector registers stay full."""


def loss_and_gradients(
    students: Sequence[Tensor], teachers: Sequence[Tensor], options: Options, wants_grad: bool
) -> LossAndGradients:
    """Return Σ over levels of the mean of (1 − SSIM) / 2, 0 in the channels of which the teacher teaches nothing."""
    losses: list[Tensor] = []
    gradients: list[Tensor] = []
    for student, teacher in zip(students, teachers, strict=True):
        gradient = torch.empty_like(student) if wants_grad else None
        losses.append(_of_level(student, teacher, options, gradient))
        gradients += [] if gradient is None else [gradient]
    return torch.stack(losses).sum(), gradients


def _of_level(student: Tensor, teacher: Tensor, options: Options, gradient: Tensor | None) -> Tensor:
    """The loss of a level; its gradient is written where one is wanted."""
    normalize, (height, width) = options.normalize, student.shape[2:]
    student_range, teacher_range = range_of(student, normalize), range_of(teacher, normalize)
    blur, scratch = _blur_for(student, options), Scratch(student)
    workspaces: dict[torch.Size, _Workspace] = {}
    sums: list[Tensor] = []
    for chunk in _chunks(student):
        size = student[chunk].shape
        if size not in workspaces:
            workspaces[size] = _Workspace(scratch, blur, size)
        work = workspaces[size]
        own, other = student_range and student_range.of(*chunk), teacher_range and teacher_range.of(*chunk)
        blurred = work.load((student[chunk], own), (teacher[chunk], other))
        dissimilar = height * width - work.one_pass.similarity(blurred).sum((2, 3), keepdim=True)
        sums.append((dissimilar if other is None else dissimilar * other.taught).sum())
        if gradient is not None:
            factor = 1 if own is None or other is None else own.factor * other.taught
            part = work.gradient(blurred).mul_(factor * (-1 / student.numel()))
            if own is not None and normalize == "channel":
                through_channel_range(part, work.student, own)
            gradient[chunk].copy_(part)
    if gradient is not None and student_range is not None and normalize == "sample":
        through_image_range(gradient, student, student_range)
    return torch.stack(sums).sum() / (2 * student.numel())


_Blur = StackedBlur | MatrixBlur


def _blur_for(features_NCHW: Tensor, options: Options) -> _Blur:
    height, width = features_NCHW.shape[2:]
    window, sigma = options.window, options.sigma
    if max(height, width) <= MAX_SIDE or border((height, width), window) == "replicate":
        return MatrixBlur(features_NCHW, window, sigma)
    return StackedBlur(features_NCHW, features_NCHW.shape[1], window, sigma)


def _chunks(features_NCHW: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images × channels, a few at a time."""
    num_images, num_channels, height, width = features_NCHW.shape
    budget = CHUNK_CELLS_PER_THREAD * min(torch.get_num_threads(), _MOST_THREADS) // (height * width)
    channels = min(num_channels, max(_LANES, budget // _LANES * _LANES))
    images = max(1, budget // channels)
    for first_image in range(0, num_images, images):
        for first_channel in range(0, num_channels, channels):
            yield slice(first_image, first_image + images), slice(first_channel, first_channel + channels)


class _Workspace:
    """Memory for a chunk, with its views. Chunks of one size take turns in it, so that it stays in the caches."""

    def __init__(self, scratch: Scratch, blur: _Blur, size_NCHW: torch.Size) -> None:
        images, channels, height, width = size_NCHW
        padded_hw = height + 2 * blur.margin, width + 2 * blur.margin
        self._blur = blur
        self._stack = scratch("stack", 4 * images, channels, *padded_hw)
        self._inputs = Padded(self._stack[: 2 * images], blur.margin)
        self.student, self._teacher = self._inputs.inside.chunk(2)
        self._gradients = Padded(scratch("gradients", 3 * images, channels, *padded_hw), blur.margin)
        luminance = scratch("luminance", 2 * images, channels, height, width)
        inside = self.student, self._teacher
        self.one_pass = OnePass(self._stack.chunk(4), inside, self._gradients.inside.chunk(3), luminance.chunk(2))

    def load(self, student: tuple[Tensor, Range | None], teacher: tuple[Tensor, Range | None]) -> tuple[Tensor, ...]:
        """Rescale, and blur the stack."""
        for inside, (features, own) in ((self.student, student), (self._teacher, teacher)):
            _copy(inside, features)
            if own is not None:
                inside.sub_(own.lo).mul_(own.factor)
        self._inputs.mirror()
        self.one_pass.multiply()
        return self._blur(self._stack).chunk(4)

    def gradient(self, blurred: tuple[Tensor, ...]) -> Tensor:
        """Half the gradient of Σ SSIM in the rescaled student."""
        self.one_pass.differentiate(blurred)
        return self.one_pass.gradient(self._blur.adjoint(self._gradients).chunk(3))


def _copy(inside: Tensor, features: Tensor) -> None:
    """Channels that lie a multiple of 4 KiB apart evict each other from the first cache: eight at a time fit."""
    crowded = features.stride(1) * features.element_size() % 4096 == 0
    step = 8 if crowded else features.shape[1]
    for to, source in zip(inside.split(step, 1), features.split(step, 1), strict=True):
        to.copy_(source)
