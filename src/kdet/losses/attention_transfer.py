"""Attention transfer: where in the image the activations are large, summed up over the channels.

Legend: N images, C channels, H W height and width of a level, L = H·W.
"""

from torch import Tensor, linalg

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import reduce_map

FLOOR = 1e-6
"""Least norm of an attention map that is believed."""


def attention_transfer_loss(student: Levels, teacher: Levels, *, power: float = 2.0) -> Tensor:
    """Compute the mean squared difference of the two models' normalised attention maps, summed over levels.

    Paper: Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural
    Networks via Attention Transfer", ICLR 2017, https://arxiv.org/abs/1612.03928.

        L = Σ_levels 1/(N·H·W) Σ_n ‖ Q_S/‖Q_S‖₂ − Q_T/‖Q_T‖₂ ‖₂²        Q = 1/C Σ_c |F_c|^p, of one image as a vector

    | symbol   | argument             | paper                                                                      |
    |----------|----------------------|----------------------------------------------------------------------------|
    | F_S, F_T | `student`, `teacher` | outputs of the backbone's stages; here one N×C×H×W map or a list of them   |
    | p        | `power`              | 2                                                                          |
    | β        | the caller's weight  | 10³ for image classification                                               |

    Args:
        student: The student's levels.
        teacher: The same of the teacher, on the same images and cells; the channels may differ in number. No gradient
            goes there.
        power: Exponent of an activation; the higher, the more the strongest channel counts.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels, images or cells differ, integer tensors, a power below 1, NaN (on the CPU; elsewhere the
            loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import attention_transfer_loss
        >>> student = torch.ones(1, 8, 2, 2)  # attends to all cells alike
        >>> teacher = torch.zeros(1, 16, 2, 2)
        >>> teacher[..., 0, 0] = 1  # attends to one cell
        >>> round(attention_transfer_loss(student, teacher).item(), 4)
        0.25

    Deviations: the paper's equation has β/2 and the norm itself. Its text sets β to 10³ over the cells and the batch,
    and the official code takes the mean of the squares, times 10³; so do we, and published weights carry over. A level
    hence counts by one over its cells (for 800×1216 pixels P7 about 200 times as much as P3), and β depends on the size
    of the images. The norm counts as at least 1e-6, as in the first official code; the later one has 1e-12, under which
    a dead level gets a boundless gradient. Of a level of one cell nothing is left but its norm: the loss is 0.
    """
    if power < 1:
        raise ValueError(f"expected a power of at least 1, got {power}")
    students, teachers = _listed(student), _listed(teacher)
    pairs = pair_levels([_one_channel(s) for s in students], [_one_channel(t) for t in teachers])
    with full_precision(pairs[0][0]):
        loss = pairs[0][0].new_zeros(())
        for s, t, (like, _) in zip(students, teachers, pairs, strict=True):
            loss = loss + _level_loss(s.to(like.dtype), t.detach().to(like.dtype), power)
    return refuse_nan(loss, student=student, teacher=teacher)


def _level_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, power: float) -> Tensor:
    if student_NCHW.numel() == 0 or teacher_NCHW.numel() == 0:
        return attached_zero(student_NCHW)
    return reduce_map((_attention(student_NCHW, power) - _attention(teacher_NCHW, power)).square())


def _attention(features_NCHW: Tensor, power: float) -> Tensor:
    """Q of each image, divided by its norm."""
    attention_NL = features_NCHW.abs().pow(power).mean(1).flatten(1)
    return attention_NL / linalg.vector_norm(attention_NL, dim=1, keepdim=True).clamp(min=FLOOR)


def _listed(levels: Levels) -> list[Tensor]:
    return [levels] if isinstance(levels, Tensor) else list(levels)


def _one_channel(features: Tensor) -> Tensor:
    """A slice of the shape of the attention map, in which the two models must agree."""
    return features[:, :1] if features.ndim == 4 else features
