"""Pearson distillation: features agree when they are correlated, whatever their scale and offset.

Legend: N images, C channels, H W height and width of a level.
"""

from typing import Literal

from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.ranks import channel_moments, num_ranks, sum_over_ranks
from kdet.ops.reduce import reduce_map
from kdet.ops.ssim.scale import FLOOR, FLOOR_SHARE

Statistics = Literal["batch", "image"]


def pkd_loss(student: Levels, teacher: Levels, *, statistics: Statistics = "batch") -> Tensor:
    """Compute half the squared difference of standardised channels, that is one minus their correlation.

    Paper: Cao, Zhang, Gao, Cheng, Cheng, Cheng, "PKD: General Distillation Framework for Object Detectors via Pearson
    Correlation Coefficient", NeurIPS 2022, https://arxiv.org/abs/2207.02039.

        L = Σ_levels 1/2 · mean over n, c, h, w of (Ŝ − T̂)²  =  Σ_levels mean over c of 1 − r(S_c, T_c)
        x̂ = (x − μ_c) / σ_c         mean and standard deviation of channel c over n, h, w

    | symbol | argument             | paper                                                                       |
    |--------|----------------------|-----------------------------------------------------------------------------|
    | S, T   | `student`, `teacher` | necks' outputs; one N×C×H×W map or a list of them                           |
    | n of μ, σ | `statistics`      | "batch", the images of one process                                          |
    | α      | the caller's weight  | 6 for Faster R-CNN, and RetinaNet from Mask R-CNN; 10 for RetinaNet and     |
    |        |                      | RepPoints from one-stage teachers; on the four finest levels                |

    Args:
        student: The student's levels.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        statistics: "batch" takes μ and σ over the batches of all processes; every process must then call the loss and
            its backward pass, also one without images. "image" takes them in each image alone.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, other statistics, NaN (on the CPU; elsewhere the loss is
            NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import pkd_loss
        >>> teacher = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> round(pkd_loss(-teacher, teacher).item(), 4)  # correlation −1
        2.0

    Deviations: statistics over all processes, so that the loss does not depend on how a batch is spread; the official
    code's are of one process. The variance is divided by the number of entries M and not by M − 1, which is what makes
    the loss 1 − r; the official value is (M − 1)/M of ours, and undefined for a single entry. σ counts as at least
    1 % of the mean σ of the channels, and 1e-6 (officially σ + 1e-6), so that a dead channel cannot take over the
    gradient, as in `kdet.ops.ssim.scale`. Maps of another size are for the caller to resize.
    """
    if statistics not in ("batch", "image"):
        raise ValueError(f'expected statistics "batch" or "image", got {statistics!r}')
    levels = pair_levels(student, teacher)
    level_loss = _loss_by_batch if statistics == "batch" else _loss_by_image
    with full_precision(levels[0][0]):
        loss = sum((level_loss(s, t) for s, t in levels), start=levels[0][0].new_zeros(()))
    return refuse_nan(loss, student=student, teacher=teacher)


def _loss_by_batch(student: Tensor, teacher: Tensor) -> Tensor:
    """No way out early for a process without images: the others would wait for its share of the sums."""
    num_channels = max(student.shape[1], 1)
    num_entries = sum_over_ranks(student.new_full((), student.numel() / num_channels)).clamp(min=1)
    gap_NCHW = _standardised(student, *channel_moments(student)) - _standardised(teacher, *channel_moments(teacher))
    return gap_NCHW.square().sum() * num_ranks() / (2 * num_channels * num_entries)


def _loss_by_image(student: Tensor, teacher: Tensor) -> Tensor:
    if student.numel() == 0:
        return attached_zero(student)

    def moments(values_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean = values_NCHW.mean((2, 3), keepdim=True)
        return mean, (values_NCHW - mean).square().mean((2, 3), keepdim=True)

    gap_NCHW = _standardised(student, *moments(student)) - _standardised(teacher, *moments(teacher))
    return reduce_map(gap_NCHW.square()) / 2


def _standardised(features_NCHW: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Mean 0 and variance 1 in each channel."""
    floor = (FLOOR_SHARE * variance.detach().sqrt().mean(1, keepdim=True)).clamp(min=FLOOR)
    # The floor comes before the root, which has no finite derivative at the variance 0 of a dead channel.
    return (features_NCHW - mean) * variance.maximum(floor.square()).rsqrt()
