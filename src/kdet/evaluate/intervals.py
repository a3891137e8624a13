"""How much a mean of paired differences owes to chance."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95


def paired_t_interval(differences: Sequence[float], *, level: float = LEVEL) -> tuple[float, float] | None:
    """Student's interval of the mean of paired differences; None for fewer than two.

    d̄ ± t₍ₙ₋₁₎ · s / √n
    """
    shown_from = smallest_shown(len(differences), level=level)
    if shown_from is None:
        return None
    mean = math.fsum(differences) / len(differences)
    half = shown_from * float(np.std(differences, ddof=1))
    return mean - half, mean + half


def smallest_shown(count: int, *, tests: int = 1, level: float = LEVEL) -> float | None:
    """Return what a mean of so many paired differences must exceed, as a multiple of their standard deviation s.

    Args:
        count: of differences; None is returned for fewer than two, which show nothing.
        tests: for the smallest p of so many, which Holm's correction asks the most of.
        level: 1 minus the probability that what does nothing is shown to do something.
    """
    if count < 2:
        return None
    return float(stdtrit(count - 1, 1 - (1 - level) / (2 * tests))) / math.sqrt(count)


def paired_t_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t test, that the mean is 0; None for fewer than two differences.

    Equal differences have no spread: p is 1 where they are 0, and 0 where they are not.
    """
    if len(differences) < 2:
        return None
    mean = math.fsum(differences) / len(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(len(differences) - 1, -abs(mean) / error))


def holm(ps: Sequence[float]) -> list[float]:
    """p values that hold for all tests together, in the order given.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979):
    p̃₍ᵢ₎ = max over j ≤ i of min(1, (m − j + 1) · p₍ⱼ₎), the p in rising order.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted
