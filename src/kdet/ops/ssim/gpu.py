"""The loss of `kdet.ops.ssim.fused` on an accelerator: all levels at once.

There the loss is not its arithmetic but the launches of its kernels, one by one from Python. So the cells of all levels
lie one behind the other, and a step is one launch for all of them, unless it looks along the sides of a level.

Legend: L levels, N images, C channels, H W height and width of a level, R rows: the cells of all levels and images.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from kdet.ops.ssim.matrix_blur import MatrixBlur
from kdet.ops.ssim.min_max import Range, range_between
from kdet.ops.ssim.one_pass import LossAndGradients, OnePass, Options

MOST_CELLS = 2**26
"""Most entries of one map of all levels; beyond, a few images at a time."""


def loss_and_gradients(
    students: Sequence[Tensor], teachers: Sequence[Tensor], options: Options, wants_grad: bool
) -> LossAndGradients:
    """Return Σ over levels of the mean of (1 − SSIM) / 2, 0 in the channels of which the teacher teaches nothing.

    Levels of as many images and channels share their launches.
    """
    groups: dict[tuple[int, int, torch.dtype], list[int]] = {}
    for index, student in enumerate(students):
        groups.setdefault((student.shape[0], student.shape[1], student.dtype), []).append(index)
    losses: list[Tensor] = []
    parts: dict[int, list[Tensor]] = {index: [] for index in range(len(students))}
    for (num_images, _, _), indices in groups.items():
        images = max(1, MOST_CELLS * num_images // sum(students[index].numel() for index in indices))
        for some in (slice(first, first + images) for first in range(0, num_images, images)):
            pair = [students[index][some] for index in indices], [teachers[index][some] for index in indices]
            loss, gradients = _of_images(*pair, options, wants_grad, share=len(pair[0][0]) / num_images)
            losses.append(loss)
            for index, gradient in zip(indices, gradients, strict=False):
                parts[index].append(gradient)
    gradients = [torch.cat(each) if len(each) > 1 else each[0] for each in parts.values() if each]
    return torch.stack(losses).sum(), gradients


def _of_images(
    students: Sequence[Tensor], teachers: Sequence[Tensor], options: Options, wants_grad: bool, share: float
) -> LossAndGradients:
    """Compute loss and gradients of images that are this share of the batch."""
    rows = _Rows(students, options)
    stack_R4C, gradients_R3C = rows.empty(4), rows.empty(3)
    inputs_R2C = stack_R4C[:, : 2 * rows.channels]
    student_RC, teacher_RC = inputs_R2C.chunk(2, 1)
    one_pass = OnePass(
        stack_R4C.chunk(4, 1), (student_RC, teacher_RC), gradients_R3C.chunk(3, 1), (rows.empty(1), rows.empty(1))
    )
    for maps_RC, levels in ((student_RC, students), (teacher_RC, teachers)):
        for to, level in zip(rows.levels(maps_RC), levels, strict=True):
            to.copy_(level)
    own = other = None
    if options.normalize is not None:
        own, other = _rescale(inputs_R2C, rows, options.normalize)
    one_pass.multiply()
    blurred = rows.blur(stack_R4C).chunk(4, 1)
    means = [level.mean((2, 3), keepdim=True) for level in rows.levels(one_pass.similarity(blurred))]
    dissimilar = 1 - torch.stack(means)  # L×N×C×1×1
    loss = (dissimilar if other is None else dissimilar * other.taught).mean() * (len(students) * share / 2)
    if not wants_grad:
        return loss, []
    one_pass.differentiate(blurred)
    del blurred  # its memory serves what follows
    gradient_RC = one_pass.gradient(rows.unblur(gradients_R3C).chunk(3, 1))
    gradients = rows.levels(gradient_RC)
    factors = [1] * len(gradients) if own is None or other is None else (own.factor * other.taught).unbind()
    for level, factor in zip(gradients, factors, strict=True):
        level.mul_(factor * (-share / level.numel()))
    if own is not None:
        shares = _through_range(gradient_RC, student_RC, rows, own, per_image=options.normalize == "sample")
        for level, at_lo, lo_share, at_hi, hi_share in zip(gradients, *shares, strict=True):
            level.addcmul_(at_lo, lo_share).addcmul_(at_hi, hi_share)
    return loss, gradients


class _Rows:
    """The layout: maps of all levels as R×K, and each level of them as an N×K×H×W view, channels innermost."""

    def __init__(self, levels: Sequence[Tensor], options: Options) -> None:
        self.images, self.channels = levels[0].shape[:2]
        self._like = levels[0]
        self._sides = [level.shape[2:] for level in levels]
        self._blurs = [MatrixBlur(level, options.window, options.sigma) for level in levels]

    def empty(self, maps: int) -> Tensor:
        """Uninitialised, R×(maps·C)."""
        cells = self.images * sum(height * width for height, width in self._sides)
        return self._like.new_empty(cells, maps * self.channels)

    def levels(self, maps_RK: Tensor) -> list[Tensor]:
        """Views, each made in one call, for a call costs as much as a launch."""
        stride, offset = maps_RK.stride(0), maps_RK.storage_offset()
        views: list[Tensor] = []
        for height, width in self._sides:
            size = (self.images, maps_RK.shape[1], height, width)
            views.append(maps_RK.as_strided(size, (height * width * stride, 1, width * stride, stride), offset))
            offset += self.images * height * width * stride
        return views

    def blur(self, maps_RK: Tensor) -> Tensor:
        """Each level by its own matrices."""
        return self._each(maps_RK, [blur.__call__ for blur in self._blurs])

    def unblur(self, maps_RK: Tensor) -> Tensor:
        """The gradient of maps from the gradient of their blur."""
        return self._each(maps_RK, [blur.transposed for blur in self._blurs])

    def _each(self, maps_RK: Tensor, blurs: Sequence[Callable[[Tensor, Tensor], Tensor]]) -> Tensor:
        source = maps_RK.to(self._blurs[0].dtype)
        result = torch.empty_like(source)
        for blur, level, out in zip(blurs, self.levels(source), self.levels(result), strict=True):
            blur(level, out)
        return result.to(maps_RK.dtype)


def _rescale(inputs_R2C: Tensor, rows: _Rows, normalize: Literal["channel", "sample"]) -> tuple[Range, Range]:
    """Both models' maps by their ranges, in place. Gives these, L×N×C×1×1 each; C is 1 where an image has one."""
    both = [level.unflatten(1, (2, rows.channels)) for level in rows.levels(inputs_R2C)]  # N×2×C×H×W
    lowest, highest = inputs_R2C.new_empty(2, len(both), rows.images, 2, rows.channels, 1, 1)
    for level, *ends in zip(both, lowest, highest, strict=True):
        torch.aminmax(level.flatten(3), dim=3, out=tuple(end.view(rows.images, 2, -1) for end in ends))
    flat = range_between(lowest.flatten(0, 2), highest.flatten(0, 2), normalize)
    lo, extent, floor, factor = (field.view(len(both), rows.images, 2, -1, 1, 1) for field in flat)
    for level, level_lo, level_factor in zip(both, lo, factor, strict=True):
        level.sub_(level_lo).mul_(level_factor)
    own, other = (Range(*(field[:, :, side] for field in (lo, extent, floor, factor))) for side in (0, 1))
    return own, other


def _through_range(
    gradient_RC: Tensor, student_RC: Tensor, rows: _Rows, own: Range, *, per_image: bool
) -> tuple[Sequence[Tensor], ...]:
    """What `min_max.through_channel_range` and its sister add: which cells of each level are the lowest, how much
    reaches each of them, which are the highest, and how much reaches those.
    """
    work_R4C = rows.empty(4)
    product, plain, at_lo, at_hi = work_R4C.chunk(4, 1)
    torch.mul(gradient_RC, student_RC, out=product)
    plain.copy_(gradient_RC)
    torch.eq(student_RC, 0, out=at_lo)
    top = own.extent * own.factor
    highest = rows.levels(at_hi)
    for at, level, level_top in zip(highest, rows.levels(student_RC), top, strict=True):
        torch.eq(level, level_top, out=at)
    sums = torch.stack([level.sum((2, 3), keepdim=True) for level in rows.levels(work_R4C)])
    stretch, shift, num_lo, num_hi = sums.unflatten(2, (4, rows.channels)).unbind(2)
    if per_image:
        stretch, shift, num_lo, num_hi = (each.sum(2, keepdim=True) for each in (stretch, shift, num_lo, num_hi))
    stretch = stretch * (own.extent > own.floor)
    return rows.levels(at_lo), ((stretch - shift) / num_lo).unbind(), highest, (-stretch / num_hi).unbind()
