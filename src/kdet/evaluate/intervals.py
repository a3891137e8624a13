"""How much a mean of paired differences owes to chance."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def paired_t_interval(differences: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of paired differences; None for fewer than two.

    d̄ ± t₍ₙ₋₁₎ · s / √n
    """
    if len(differences) < 2:
        return None
    mean = math.fsum(differences) / len(differences)
    quantile = float(stdtrit(len(differences) - 1, (1 + level) / 2))
    half = quantile * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return mean - half, mean + half
