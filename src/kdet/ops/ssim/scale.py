"""Bring a feature map to [0, 1] by its own range: the ν of structural distillation.

Legend: N images, C channels, H W height and width.
"""

from typing import Literal, assert_never

from torch import Tensor

Normalize = Literal["channel", "sample"] | None
"""Extent of the range: each channel of each image, each image, or no rescale. Never across the batch."""

FLOOR_SHARE = 0.01
"""A range counts as at least this share of the image's mean channel range."""
FLOOR = 1e-6


def check_normalize(normalize: Normalize) -> None:
    """Raises ValueError for anything but the three names."""
    if normalize not in ("channel", "sample", None):
        raise ValueError(f'expected normalize "channel", "sample" or None, got {normalize!r}')


def rescale(features_NCHW: Tensor, normalize: Normalize) -> Tensor:
    """Return (x − lo) / max(hi − lo, floor), with the range over H×W ("channel") or C×H×W ("sample")."""
    return _rescaled_and_alive(features_NCHW, normalize)[0]


def taught(teacher_NCHW: Tensor, normalize: Normalize) -> Tensor:
    """Return 1 where the teacher has something to teach, else 0; N×C×1×1, N×1×1×1, or 1×1×1×1 without a rescale.

    The teacher's dead channels have nothing to teach, and no student's channel can follow them: ν stretches whatever
    range it has to [0, 1]. The nearest to a constant is one cell far above all others, which grows without end: after
    1000 steps of Adam on a free map the range of such channels was 15.3 in the structural loss and 10.6 in ℓ1, that of
    the others 3.1 and 3.2; at the first step 8 such channels of 32 had 64 % of ℓ1's squared gradient and 84 % of ℓ2's.
    """
    return _rescaled_and_alive(teacher_NCHW, normalize)[1]


def rescaled_pair(student_NCHW: Tensor, teacher_NCHW: Tensor, normalize: Normalize) -> tuple[Tensor, Tensor, Tensor]:
    """Return both maps under `rescale`, and what is `taught`; the teacher's range is taken once."""
    return rescale(student_NCHW, normalize), *_rescaled_and_alive(teacher_NCHW, normalize)


def _rescaled_and_alive(features_NCHW: Tensor, normalize: Normalize) -> tuple[Tensor, Tensor]:
    if normalize is None or features_NCHW.numel() == 0:
        return features_NCHW, features_NCHW.new_ones(1, 1, 1, 1)
    lo_NC11, hi_NC11, floor_N111 = value_range(features_NCHW, normalize)
    extent_NC11 = hi_NC11 - lo_NC11
    return (features_NCHW - lo_NC11) / extent_NC11.maximum(floor_N111), alive(extent_NC11, floor_N111)


def alive(extent: Tensor, floor: Tensor) -> Tensor:
    """1 where a range is believed, else 0. Where all of an image lies below 1e-6 it is small and not dead: there every
    channel counts that is not constant.
    """
    return (extent > floor.where(floor > FLOOR, 0)).to(extent.dtype)


def value_range(features_NCHW: Tensor, normalize: Literal["channel", "sample"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return lowest and highest value (N×C×1×1 or N×1×1×1), and the least believed range (N×1×1×1, detached)."""
    return with_range_floor(
        features_NCHW.amin((2, 3), keepdim=True), features_NCHW.amax((2, 3), keepdim=True), normalize
    )


def with_range_floor(
    lo_NC11: Tensor, hi_NC11: Tensor, normalize: Literal["channel", "sample"]
) -> tuple[Tensor, Tensor, Tensor]:
    """The same from the lowest and the highest value of each channel.

    Without the floor a channel that is constant but for noise of 1e-6 would be blown up to the full [0, 1], and its
    gradient a million times that of its neighbours. The floor follows the scale of the image's other channels. It is
    taken from their mean range and not from the median, which is 0 as soon as half of the channels are dead; and per
    image, so that the loss of a batch does not depend on how the batch is spread over processes.
    """
    mean_range_N111 = (hi_NC11 - lo_NC11).detach().mean(1, keepdim=True)
    floor_N111 = (FLOOR_SHARE * mean_range_N111).clamp(min=FLOOR)
    match normalize:
        case "channel":
            return lo_NC11, hi_NC11, floor_N111
        case "sample":
            return lo_NC11.amin(1, keepdim=True), hi_NC11.amax(1, keepdim=True), floor_N111
        case _:
            assert_never(normalize)
