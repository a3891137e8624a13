"""Masked generative distillation: from a part of the student's features a small network makes the teacher's.

Legend: N images, C channels, H W height and width of a level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import cell_weights


class MGDLoss(nn.Module):
    """Squared error between the teacher's features and those generated from the student's masked ones.

    Paper: Yang, Li, Shao, Shi, Yuan, Yuan, "Masked Generative Distillation", ECCV 2022,
    https://arxiv.org/abs/2205.01529. Official code: https://github.com/yzd-v/MGD.

        L = Σ_levels 1/N Σ_{n,c,h,w} (T − G(S ⊙ M))²        G = 3×3 convolution, ReLU, 3×3 convolution
        M = 0 in a cell with probability λ, else 1; the same for all channels

    | symbol | argument             | paper                                                                     |
    |--------|----------------------|---------------------------------------------------------------------------|
    | S, T   | `student`, `teacher` | necks' outputs: P3 to P7 of one-stage, P2 to P5 of two-stage detectors    |
    | G      | trained here         | one for each level, thrown away after training                            |
    | λ      | `mask_ratio`         | 0.65 for RetinaNet, RepPoints and SOLO; 0.45 for Faster and Mask R-CNN     |
    | M      | `keep`               | drawn anew in every step                                                  |
    | α      | the caller's weight  | 2e-5 where λ is 0.65, 5e-7 where it is 0.45                               |
    |        | the caller's 1×1 conv | on the student where its channels are not the teacher's                  |

    α is so small because L is a sum: it grows with C·H·W, and 256 channels of 100×152 cells make 2e-5 a weight of 78
    on the mean squared error. For other channels or image sizes keep α·C·H·W; a level counts by its number of cells.
    Equal models do not give 0, since G has to fill in what is masked, and starts at random.

    Args:
        channels: The teacher's channels, one entry per level.
        mask_ratio: Share of the cells that the generator does not see, at least 0 and below 1.

    Raises:
        ValueError: a mask ratio out of range; when called, other levels, channels or shapes, integer tensors, NaN (on
            the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import MGDLoss
        >>> loss = MGDLoss([8])  # one level of 8 channels
        >>> student, teacher = torch.zeros(1, 8, 4, 4), torch.ones(1, 8, 4, 4)
        >>> loss(student, teacher).backward()
        >>> all(parameter.grad is not None for parameter in loss.parameters())
        True

    Deviations: the mask is drawn on the features' device, not on the CPU, so that the host need not wait.
    """

    def __init__(self, channels: Sequence[int], *, mask_ratio: float = 0.65) -> None:
        super().__init__()
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"expected a mask ratio of at least 0 and below 1, got {mask_ratio}")
        self.channels = list(channels)
        self.mask_ratio = mask_ratio
        self.generators = nn.ModuleList(_generator(c) for c in channels)

    def forward(self, student: Levels, teacher: Levels, *, keep: Levels | None = None) -> Tensor:
        """Compute the loss of a batch.

        Args:
            student: The student's levels, in the teacher's channels.
            teacher: The teacher's levels, of the same shapes; no gradient goes there.
            keep: 1 in the cells that the generator sees and 0 in the others, N×1×H×W a level; None draws it from
                torch's generator of the device; a Distiller lets it draw numbers that are not the student's.

        Returns:
            A scalar; float64 if an input is, else float32.
        """
        levels = pair_levels(student, teacher)
        students = [s for s, _ in levels]
        if [s.shape[1] for s in students] != self.channels:
            raise ValueError(f"expected levels of {self.channels} channels, got {[s.shape[1] for s in students]}")
        kept = [self._draw(s) for s in students] if keep is None else cell_weights(keep, students, name="keep")
        with full_precision(students[0]):
            loss = sum(
                (_level_loss(g, s, t, k) for g, (s, t), k in zip(self.generators, levels, kept, strict=True)),
                start=students[0].new_zeros(()),
            )
        return refuse_nan(loss, student=student, teacher=teacher, keep=kept)

    def _draw(self, student_NCHW: Tensor) -> Tensor:
        """A mask for one level, N×1×H×W."""
        return (torch.rand_like(student_NCHW[:, :1]) >= self.mask_ratio).to(student_NCHW.dtype)


def _generator(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )


def _level_loss(generator: nn.Module, student: Tensor, teacher: Tensor, keep_N1HW: Tensor) -> Tensor:
    if student.numel() == 0:
        return attached_zero(student)
    return (teacher - generator(student * keep_N1HW)).square().sum() / len(student)
