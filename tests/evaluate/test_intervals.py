"""Student's interval, worked out by hand, and what chance alone makes of the rule that reads it."""

import itertools

import numpy as np
import pytest
from scipy import stats

from kdet.evaluate import holm, paired_t_interval, paired_t_p, smallest_shown


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


@pytest.mark.parametrize(
    ("count", "multiple"),
    [(2, 8.984644), (3, 2.484138), (4, 1.591223), (5, 1.241664), (10, 0.715357)],  # tables of t(97.5 %), by √n
)
def test_what_a_gain_must_exceed(count: int, multiple: float) -> None:
    assert smallest_shown(count) == pytest.approx(multiple, abs=1e-5)
    assert smallest_shown(count, tests=4) == pytest.approx(stats.t.ppf(1 - 0.05 / 8, count - 1) / count**0.5)


def test_fewer_than_two_show_nothing_however_large() -> None:
    assert smallest_shown(1) is None and smallest_shown(0) is None


def test_p_is_that_of_scipys_paired_test_and_agrees_with_the_interval() -> None:
    rng = np.random.default_rng(1)
    for count in (2, 3, 5, 9):
        for shift in (0.0, 0.3, 3.0):
            one, other = rng.normal(shift, 1, count), rng.normal(0, 0.3, count)
            gains = (one - other).tolist()
            p = paired_t_p(gains)
            assert p == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-9)
            low, high = paired_t_interval(gains) or (0, 0)
            assert (p is not None and p < 0.05) == (low > 0 or high < 0)


def test_p_without_a_spread_and_of_a_single_difference() -> None:
    assert paired_t_p([0.0, 0.0, 0.0]) == 1 and paired_t_p([0.5, 0.5]) == 0
    assert paired_t_p([0.3]) is None and paired_t_p([]) is None


def rejected_one_after_the_other(ps: list[float], level: float) -> set[int]:
    """Holm's procedure as his paper tells it: the smallest against α/m, the next against α/(m−1), until one stays."""
    left = list(range(len(ps)))
    gone: set[int] = set()
    while left:
        smallest = min(left, key=lambda place: ps[place])
        if ps[smallest] >= level / len(left):
            break
        left.remove(smallest)
        gone.add(smallest)
    return gone


def test_holm_by_hand() -> None:
    # 4·0.01, then 3·0.02, then 2·0.03 and 0.04, none below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.03]) == [0.03] and holm([]) == []


def test_holm_rejects_what_his_procedure_rejects() -> None:
    grid = (0.001, 0.012, 0.013, 0.016, 0.02, 0.03, 0.049, 0.2, 1.0)
    for ps in itertools.product(grid, repeat=4):
        found = {place for place, p in enumerate(holm(ps)) if p < 0.05}
        assert found == rejected_one_after_the_other(list(ps), 0.05)
