"""The min-max rescale of `kdet.ops.ssim.scale.rescale` by hand: its numbers, and the gradient through them.

Legend: N images, C channels, H W height and width. "Chunk": some images × some channels of a level.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kdet.ops.ssim.scale import Normalize, alive, value_range, with_range_floor


class Range(NamedTuple):
    """The rescale x = (X − lo) · factor of one map; N×C×1×1 each, or N×1×1×1 for the range of an image."""

    lo: Tensor
    extent: Tensor
    floor: Tensor
    """The least extent that is believed; N×1×1×1."""
    factor: Tensor

    @property
    def taught(self) -> Tensor:
        """Where a teacher's map has something to teach, as `kdet.ops.ssim.scale.taught`."""
        return alive(self.extent, self.floor)

    def of(self, images: slice, channels: slice) -> "Range":
        """The part that belongs to a chunk."""
        return Range(*(t[images] if t.shape[1] == 1 else t[images, channels] for t in self))


def range_of(features_NCHW: Tensor, normalize: Normalize) -> Range | None:
    """Return the range of a map; None where there is no rescale."""
    return None if normalize is None else _range(*value_range(features_NCHW, normalize))


def range_between(lo_NC11: Tensor, hi_NC11: Tensor, normalize: Literal["channel", "sample"]) -> Range:
    """Return the range of a map whose channels' ends are known."""
    return _range(*with_range_floor(lo_NC11, hi_NC11, normalize))


def _range(lo: Tensor, hi: Tensor, floor: Tensor) -> Range:
    extent = hi - lo
    return Range(lo, extent, floor, extent.maximum(floor).reciprocal())


def through_channel_range(gradient: Tensor, rescaled: Tensor, own: Range) -> None:
    """Add in place what reaches the lowest and the highest entries of each channel because they set its range."""
    _through_range(gradient, rescaled, own, (2, 3))


def through_image_range(gradient: Tensor, features: Tensor, own: Range) -> None:
    """The same for the range of whole images, an image at a time to spare memory."""
    for image in range(len(features)):
        one = slice(image, image + 1)
        part = own.of(one, slice(None))
        _through_range(gradient[one], (features[one] - part.lo).mul_(part.factor), part, (1, 2, 3))


def _through_range(gradient: Tensor, rescaled: Tensor, own: Range, axes: tuple[int, ...]) -> None:
    """Ties share equally.

    x = (X − lo)·factor. Every x falls as lo rises and, where the range sets the factor, shrinks towards 0 as hi rises.
    """
    work = gradient * rescaled
    stretch = work.sum(axes, keepdim=True) * (own.extent > own.floor)  # 0 where the floor sets the factor
    shift = gradient.sum(axes, keepdim=True)
    top = own.extent * own.factor  # where the highest entry arrives: 1, or less under the floor
    for end, share in ((torch.zeros_like(top), stretch - shift), (top, -stretch)):
        at_end = torch.eq(rescaled, end, out=work)
        gradient.addcmul_(at_end, share / at_end.sum(axes, keepdim=True))
