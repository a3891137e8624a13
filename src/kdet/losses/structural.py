"""Structural knowledge distillation: SSIM between feature maps.

Legend: N images, C channels, H W height and width of a level.
"""

import torch
from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import reduce_map
from kdet.ops.ssim.fused import mean_dissimilarity
from kdet.ops.ssim.one_pass import Options
from kdet.ops.ssim.reference import Exponents, similarity
from kdet.ops.ssim.scale import Normalize, check_normalize, rescaled_pair
from kdet.ops.ssim.windows import check_window


def structural_loss(
    student: Levels,
    teacher: Levels,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
    normalize: Normalize = "channel",
) -> Tensor:
    """Compute half of one minus the structural similarity of the two models' feature maps.

    Paper: de Rijk, Schneider, Cordts, Gavrila, "Structural Knowledge Distillation for Object Detection",
    NeurIPS 2022, https://arxiv.org/abs/2211.13133. There is no official code.

        L_feat = Σ_r 1/(H_r·W_r·C) Σ_{h,w,c} (1 − l^α · c^β · s^γ) / 2          of ν(S_r) and ν(T_r)
        l = (2 μ_S μ_T + C1) / (μ_S² + μ_T² + C1)       local mean
        c = (2 σ_S σ_T + C2) / (σ_S² + σ_T² + C2)       local spread
        s = (σ_ST + C3) / (σ_S σ_T + C3)                local correlation

    | symbol     | argument             | paper                                                           |
    |------------|----------------------|-----------------------------------------------------------------|
    | S_r, T_r   | `student`, `teacher` | necks' outputs; one N×C×H×W map or a list of them               |
    | α, β, γ    | `alpha` `beta` `gamma` | 1, 1, 1; an exponent of 0 leaves its factor out               |
    | μ, σ, σ_ST | `window`, `sigma`    | 11×11 Gaussian window of width 1.5, each channel by itself      |
    | ν          | `normalize`          | min-max rescale to [0, 1], each model by its own range          |
    | C1, C2, C3 | constants            | 0.01², 0.03², C2/2                                              |
    | λ          | the caller's weight  | 2 and 4 are best, and within half a point of each other         |
    | φ          | the caller's 1×1 conv | on the student, before ν                                       |

    Args:
        student: The student's levels; the loss is the mean inside a level and the sum over levels.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.
        alpha: Exponent of the luminance.
        beta: Exponent of the contrast.
        gamma: Exponent of the structure.
        window: Side of the window in cells, odd.
        sigma: Width of the Gaussian in cells.
        normalize: Range of each channel of each image ("channel"), of each image ("sample"), or None for maps
            that already lie in [0, 1].

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, an even window, NaN (on an accelerator NaN is not
            looked for, since that would stop it in every step: the loss is NaN then).

    Examples:
        >>> import torch
        >>> from kdet.losses import structural_loss
        >>> teacher = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> round(structural_loss(teacher, teacher).item(), 4)
        0.0
        >>> student, teacher = torch.zeros(1, 8, 16, 16), torch.ones(1, 8, 16, 16)
        >>> round(structural_loss(student, teacher, normalize=None).item(), 3)  # the means have nothing in common
        0.5

    Deviations: the paper does not say over which axes ν takes the range. "channel" is the default because SSIM
    compares channels one by one: under one range per image most channels of a heavy-tailed map span so little of
    [0, 1] that C2 drowns their contrast and structure. Also ours: the mean over the batch; the mirrored border (edge
    repeated where a side is too short to mirror); the least range that is believed (`kdet.ops.ssim.scale`), and that a
    channel of an image in which the teacher's range is not believed counts as 0 in the mean over all channels: no
    student's channel can follow a dead one, and it would grow a peak without end; the clamp of l, c and s at 1e-6 under
    a fractional exponent. With β = γ = 1, c·s is computed as one fraction, which needs no
    square root; apart from rounding it is the same number. With α = 1 as well, value and gradient come from one pass
    (`kdet.ops.ssim.fused`), which can be differentiated once.
    """
    check_window(window, sigma)
    check_normalize(normalize)
    exponents = _checked_exponents(alpha, beta, gamma)
    levels = pair_levels(student, teacher)
    with full_precision(levels[0][0]):
        if exponents == (1, 1, 1) and not torch.compiler.is_compiling():
            loss = mean_dissimilarity(levels, Options(normalize, window, sigma))
        else:
            losses = [_level_loss(s, t, exponents, window, sigma, normalize) for s, t in levels]
            loss = torch.stack(losses).sum()
    return refuse_nan(loss.clamp(min=0), student=student, teacher=teacher)  # rounding can carry it a hair below


def _level_loss(
    student: Tensor, teacher: Tensor, exponents: Exponents, window: int, sigma: float, normalize: Normalize
) -> Tensor:
    if student.numel() == 0:
        return attached_zero(student)
    own, other, taught = rescaled_pair(student, teacher, normalize)
    return reduce_map((1 - similarity(own, other, exponents, window, sigma)) * taught) / 2


def _checked_exponents(alpha: float, beta: float, gamma: float) -> Exponents:
    exponents = Exponents(alpha, beta, gamma)
    if min(exponents) < 0 or max(exponents) == 0:
        raise ValueError(f"expected exponents of at least 0 and one above it, got {tuple(exponents)}")
    return exponents
