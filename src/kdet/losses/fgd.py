"""Focal and global distillation: objects and background apart, by the teacher's attention, and the whole image.

Legend: N images, C channels, H W height and width of a level, L = H·W cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import cell_weights
from kdet.ops.temperature import check_temperature


class FGDLoss(nn.Module):
    """Squared error by region and attention, difference of the attentions, and squared error in context.

    Paper: Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan, "Focal and Global Knowledge Distillation for Detectors", CVPR 2022,
    https://arxiv.org/abs/2111.11837. Official code: https://github.com/yzd-v/FGD.

        L    = Σ_levels 1/N Σ_n ( focal + γ · attention + λ · relation )
        focal     = Σ_{c,h,w} (α·F + β·B) · A^S(T) · A^C(T) · (T − S)²
        attention = Σ_{h,w} |A^S(T) − A^S(S)| + Σ_c |A^C(T) − A^C(S)|
        relation  = Σ_{c,h,w} (R_T(T) − R_S(S))²
        A^S(X) = H·W · softmax_{h,w}( mean_c |X| / τ )         A^C(X) = C · softmax_c( mean_{h,w} |X| / τ )
        R(X)   = X + W₂ · ReLU( LN( W₁ · Σ_{h,w} X · softmax_{h,w}( w·X ) ) )       GCNet's context block

    | symbol   | argument             | paper                                                                   |
    |----------|----------------------|-------------------------------------------------------------------------|
    | S, T     | `student`, `teacher` | necks' outputs: P3 to P7 of one-stage, P2 to P5 of two-stage detectors  |
    | F        | `foreground`         | 1 / area of the object, the smallest where they overlap                 |
    | B        | `background`         | 1 / number of the image's cells outside all objects                     |
    | α        | `alpha`              | 1e-3; FCOS and RepPoints 1.6e-3; Faster and Mask R-CNN 5e-5              |
    | β        | `beta`               | 5e-4; FCOS and RepPoints 8e-4; Faster and Mask R-CNN 2.5e-5              |
    | γ        | `gamma`              | 5e-4; FCOS and RepPoints 8e-4; Faster and Mask R-CNN 5e-5                |
    | λ        | `lambda_`            | 5e-6; FCOS and RepPoints 8e-6; Faster and Mask R-CNN 5e-7                |
    | τ        | `temperature`        | 0.5; FCOS 0.8                                                           |
    | R_S, R_T | trained here         | one of each model and level, thrown away after training                 |
    |          | the caller's weight  | 1                                                                       |

    All parts are sums: F and B take the size of the map out of focal, attention grows with H·W, and relation with
    C·H·W: 256 channels of 100×152 cells make 5e-6 a weight of 19 on the mean squared error. Equal models give 0 at
    the start, where W₂ = 0, and more once R_S and R_T have become different.

    Args:
        channels: The teacher's channels, one entry per level.
        alpha: Weight of the objects.
        beta: Weight of the background.
        gamma: Weight of the attentions' difference.
        lambda_: Weight of the relations.
        temperature: Divides the mean magnitudes; lower makes the attention sharper.

    Raises:
        ValueError: a temperature not above 0; when called, other levels, channels or shapes, integer tensors, NaN (on
            the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import FGDLoss
        >>> loss = FGDLoss([8])  # one level of 8 channels
        >>> student, teacher = torch.zeros(1, 8, 2, 2), torch.ones(1, 8, 2, 2)
        >>> foreground = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])  # an object of one cell
        >>> background = (1 - foreground) / 3
        >>> value = loss(student, teacher, foreground=foreground, background=background)
        >>> round(value.item(), 5)  # 8 · (alpha + beta) + 32 · lambda_
        0.01216

    Deviations: the constants are those of the official configurations; the default γ is RetinaNet's, GFL's and SOLO's,
    where the official class has 1e-3. w has no bias, which would cancel in the softmax. Which cells an object has is
    said in `kdet.ops.regions`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 5e-4,
        lambda_: float = 5e-6,
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.channels = list(channels)
        self.alpha, self.beta, self.gamma, self.lambda_ = alpha, beta, gamma, lambda_
        self.temperature = temperature
        self.student_contexts = nn.ModuleList(_Context(c) for c in channels)
        self.teacher_contexts = nn.ModuleList(_Context(c) for c in channels)

    def forward(self, student: Levels, teacher: Levels, *, foreground: Levels, background: Levels) -> Tensor:
        """Compute the loss of a batch.

        Args:
            student: The student's levels, in the teacher's channels.
            teacher: The teacher's levels, of the same shapes; no gradient goes there.
            foreground: `kdet.ops.regions.foreground_by_area` of each level, N×1×H×W.
            background: `kdet.ops.regions.background_mask` of each level, N×1×H×W.

        Returns:
            A scalar; float64 if an input is, else float32.
        """
        levels = pair_levels(student, teacher)
        students = [s for s, _ in levels]
        if [s.shape[1] for s in students] != self.channels:
            raise ValueError(f"expected levels of {self.channels} channels, got {[s.shape[1] for s in students]}")
        inside = cell_weights(foreground, students, name="foreground")
        outside = cell_weights(background, students, name="background")
        with full_precision(students[0]):
            loss = students[0].new_zeros(())
            for index, ((s, t), f, b) in enumerate(zip(levels, inside, outside, strict=True)):
                loss = loss + self._level_loss(index, s, t, self.alpha * f + self.beta * b)
        return refuse_nan(loss, student=student, teacher=teacher, foreground=foreground, background=background)

    def _level_loss(self, index: int, student: Tensor, teacher: Tensor, weight_N1HW: Tensor) -> Tensor:
        if student.numel() == 0:
            return attached_zero(student)
        gap_NCHW = teacher - student
        attention_s, attention_t = _attention(student, self.temperature), _attention(teacher, self.temperature)
        context_gap_NC11 = self.teacher_contexts[index](teacher) - self.student_contexts[index](student)
        total = (
            _focal(gap_NCHW, attention_t, weight_N1HW)
            + self.gamma * _attention_gap(attention_s, attention_t)
            + self.lambda_ * (gap_NCHW + context_gap_NC11).square().sum()
        )
        return total / len(student)


class _Attention(NamedTuple):
    """Where a model has large features, each with the mean 1."""

    spatial_N1HW: Tensor
    channel_NC11: Tensor


def _attention(features_NCHW: Tensor, temperature: float) -> _Attention:
    channels, height, width = features_NCHW.shape[1:]
    magnitude_NCHW = features_NCHW.abs()
    spatial_NL = height * width * (magnitude_NCHW.mean(1).flatten(1) / temperature).softmax(1)
    channel_NC = channels * (magnitude_NCHW.mean((2, 3)) / temperature).softmax(1)
    return _Attention(spatial_NL.view(-1, 1, height, width), channel_NC[:, :, None, None])


def _attention_gap(student: _Attention, teacher: _Attention) -> Tensor:
    spatial_gap = (teacher.spatial_N1HW - student.spatial_N1HW).abs().sum()
    return spatial_gap + (teacher.channel_NC11 - student.channel_NC11).abs().sum()


def _focal(gap_NCHW: Tensor, attention: _Attention, weight_N1HW: Tensor) -> Tensor:
    by_channel_N1HW = (attention.channel_NC11 * gap_NCHW.square()).sum(1, keepdim=True)
    return (weight_N1HW * attention.spatial_N1HW * by_channel_N1HW).sum()


class _Context(nn.Module):
    """What R adds to every cell of an image, N×C×1×1; nothing at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.key = nn.Conv2d(channels, 1, 1, bias=False)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU())
        self.expand = nn.Conv2d(hidden, channels, 1)
        nn.init.kaiming_normal_(self.key.weight, nonlinearity="relu")
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features_NCHW: Tensor) -> Tensor:
        key_N1HW = self.key(features_NCHW)
        share_N1HW = key_N1HW.flatten(1).softmax(1).view_as(key_N1HW)
        pooled_NC11 = (features_NCHW * share_N1HW).sum((2, 3), keepdim=True)
        return self.expand(self.squeeze(pooled_NC11))
