"""Structural similarity (SSIM) of two maps in [0, 1], as its formula reads.

Legend: N images, C channels, H W height and width. The moments are those under a Gaussian window around each cell.
"""

from typing import NamedTuple

from torch import Tensor

from kdet.ops.ssim.windows import blur

C1, C2 = 0.01**2, 0.03**2
C3 = C2 / 2
VARIANCE_EPS = 1e-8
"""Keeps the slope of the square root finite where a map is flat; its root is a hundredth of √C2."""
FRACTIONAL_BASE_MIN = 1e-6


class Exponents(NamedTuple):
    """How much each factor of the similarity counts."""

    luminance: float = 1.0
    contrast: float = 1.0
    structure: float = 1.0


class Moments(NamedTuple):
    """Local statistics of two maps, each N×C×H×W."""

    mean_s: Tensor
    mean_t: Tensor
    var_s: Tensor
    var_t: Tensor
    cov: Tensor


def moments(student: Tensor, teacher: Tensor, window: int, sigma: float) -> Moments:
    """Means, variances and covariance under the window."""
    mean_s, mean_t = blur(student, window, sigma), blur(teacher, window, sigma)
    var_s = blur(student.square(), window, sigma) - mean_s.square()
    var_t = blur(teacher.square(), window, sigma) - mean_t.square()
    cov = blur(student * teacher, window, sigma) - mean_s * mean_t
    return Moments(mean_s, mean_t, var_s, var_t, cov)


def luminance(m: Moments) -> Tensor:
    """Return (2 μ_S μ_T + C1) / (μ_S² + μ_T² + C1)."""
    return (2 * m.mean_s * m.mean_t + C1) / (m.mean_s.square() + m.mean_t.square() + C1)


def contrast_and_structure(m: Moments) -> Tensor:
    """Return c · s in one fraction: with C3 = C2/2 the roots cancel, (2 σ_ST + C2) / (σ_S² + σ_T² + C2)."""
    return (2 * m.cov + C2) / (m.var_s + m.var_t + C2)


def contrast(m: Moments, eps: float = VARIANCE_EPS) -> Tensor:
    """Return (2 σ_S σ_T + C2) / (σ_S² + σ_T² + C2)."""
    spread_s, spread_t = _root(m.var_s, eps), _root(m.var_t, eps)
    return (2 * spread_s * spread_t + C2) / (spread_s.square() + spread_t.square() + C2)


def structure(m: Moments, eps: float = VARIANCE_EPS) -> Tensor:
    """Return (σ_ST + C3) / (σ_S σ_T + C3); negative where the maps run against each other."""
    return (m.cov + C3) / (_root(m.var_s, eps) * _root(m.var_t, eps) + C3)


def similarity(student: Tensor, teacher: Tensor, exponents: Exponents, window: int, sigma: float) -> Tensor:
    """Return l^α · c^β · s^γ at each cell; a factor whose exponent is 0 is left out."""
    m = moments(student, teacher, window, sigma)
    value = _power(luminance(m), exponents.luminance) if exponents.luminance else m.mean_s.new_ones(())
    if exponents.contrast == exponents.structure == 1:
        return value * contrast_and_structure(m)
    if exponents.contrast:
        value = value * _power(contrast(m), exponents.contrast)
    if exponents.structure:
        value = value * _power(structure(m), exponents.structure)
    return value


def _root(variance: Tensor, eps: float) -> Tensor:
    """σ; rounding can make the difference of two blurs slightly negative."""
    return (variance.clamp(min=0) + eps).sqrt()


def _power(factor: Tensor, exponent: float) -> Tensor:
    """Clamped only where a negative base would give NaN: anti-correlated maps must keep their gradient."""
    if exponent == 1:
        return factor
    return (factor if float(exponent).is_integer() else factor.clamp(min=FRACTIONAL_BASE_MIN)).pow(exponent)
