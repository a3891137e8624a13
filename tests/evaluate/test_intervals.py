"""Student's interval, worked out by hand, and what chance alone makes of the rule that reads it."""

import numpy as np
import pytest

from kdet.evaluate import paired_t_interval


def test_three_differences_by_hand() -> None:
    # mean 0.02, s = 0.01, t(2, 97.5 %) = 4.302653: half = 4.302653 · 0.01 / √3
    assert paired_t_interval([0.01, 0.02, 0.03]) == pytest.approx((0.02 - 0.0248414, 0.02 + 0.0248414), abs=1e-7)


def test_two_differences_by_hand() -> None:
    # t(1, 97.5 %) = 12.706205, s = 0.01·√2, so half = 12.706205 · 0.01
    assert paired_t_interval([0.03, 0.05]) == pytest.approx((0.04 - 0.12706205, 0.04 + 0.12706205), abs=1e-8)


def test_another_level() -> None:
    # t(4, 95 %) = 2.131847, s² = 2.5e-4
    low, high = paired_t_interval([0.0, 0.01, 0.02, 0.03, 0.04], level=0.9) or (0, 0)
    assert high - low == pytest.approx(2 * 2.131847 * (2.5e-4 / 5) ** 0.5, abs=1e-7)


def test_one_difference_says_nothing() -> None:
    assert paired_t_interval([0.3]) is None and paired_t_interval([]) is None


def test_no_difference_at_all_is_an_interval_of_exactly_nothing() -> None:
    assert paired_t_interval([0.0, 0.0, 0.0]) == (0.0, 0.0)


def test_noise_alone_is_rarely_taken_for_an_effect() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (2000, 3))
    above = [interval[0] > 0 for row in noise.tolist() if (interval := paired_t_interval(row))]
    assert 0.01 < np.mean(above) < 0.04  # 2.5 % by construction


def test_a_steady_effect_is_seen() -> None:
    low, _ = paired_t_interval([0.030, 0.033, 0.028]) or (0, 0)
    assert low > 0
