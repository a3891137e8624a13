"""What Pearson distillation must give, by hand and by the promises of a correlation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import pkd_loss
from losses.cases.pkd import reference

both_statistics = pytest.mark.parametrize("statistics", ["batch", "image"])


def channel(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def grad_of(student: torch.Tensor, teacher: torch.Tensor, **options) -> torch.Tensor:
    student = student.detach().clone().requires_grad_()
    pkd_loss(student, teacher, **options).backward()
    assert student.grad is not None
    return student.grad


@both_statistics
def test_values_by_hand(statistics):
    """Means are 0 and both norms √2, so r = Σ s·t / 2."""
    student = channel(-1, 0, 1)
    assert pkd_loss(student, channel(-1, 0, 1), statistics=statistics).item() == pytest.approx(0)
    assert pkd_loss(student, channel(0, 1, -1), statistics=statistics).item() == pytest.approx(1.5)  # r = −1/2
    assert pkd_loss(student, channel(1, 0, -1), statistics=statistics).item() == pytest.approx(2)  # r = −1
    # The teacher's second channel (−1, 2, −1) is uncorrelated, 1 − r = 1: the mean over channels is 1/2.
    two = torch.cat([student, student], 1)
    teacher = torch.cat([student, channel(-1, 2, -1)], 1)
    assert pkd_loss(two, teacher, statistics=statistics).item() == pytest.approx(0.5)
    assert pkd_loss([two, two], [teacher, teacher], statistics=statistics).item() == pytest.approx(1)


def test_statistics_of_the_batch_see_the_offset_between_images():
    """Within each image S = T + const, but the second image's constant is 10.

    Over both, S deviates from its mean 5.5 by ∓5.5 and ∓4.5, T from 0.5 by ∓0.5:
    cov = 1/4 · 0.5 · (5.5 − 4.5 − 4.5 + 5.5) = 1/4, var S = (5.5² + 4.5²)/2 = 25.25, var T = 1/4.
    """
    student, teacher = torch.cat([channel(0, 1), channel(10, 11)]), torch.cat([channel(0, 1), channel(0, 1)])
    assert pkd_loss(student, teacher, statistics="image").item() == pytest.approx(0)
    assert pkd_loss(student, teacher).item() == pytest.approx(1 - 0.25 / (25.25**0.5 * 0.5))


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 5), st.integers(2, 5)),
    statistics=st.sampled_from(["batch", "image"]),
    seed=st.integers(0, 2**16),
)
def test_scale_and_offset_of_a_channel_change_nothing(shape, statistics, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, *shape, generator=generator, dtype=torch.float64).unbind()
    # Within a factor of 10 no channel comes near the floor of 1 %.
    scale = 10 ** torch.rand(1, shape[1], 1, 1, generator=generator, dtype=torch.float64)
    loss = pkd_loss(student, teacher, statistics=statistics)
    assert 0 <= loss.item() <= 2
    torch.testing.assert_close(pkd_loss(student * scale - 3, teacher, statistics=statistics), loss)
    torch.testing.assert_close(pkd_loss(student, teacher * scale + 7, statistics=statistics), loss)
    torch.testing.assert_close(pkd_loss(student, -teacher, statistics=statistics), 2 - loss)


def test_it_is_one_minus_torchs_correlation():
    student, teacher = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64).unbind()
    rows_s, rows_t = student.transpose(0, 1).flatten(1), teacher.transpose(0, 1).flatten(1)
    expected = sum(1 - torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(rows_s, rows_t, strict=True)) / 4
    torch.testing.assert_close(pkd_loss(student, teacher), expected)


def test_the_official_reduction_is_a_known_factor_away():
    """Standard deviation with M − 1 and 1e-6 beside it, half the mean squared error over everything."""
    student, teacher = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64).unbind()

    def official(features: torch.Tensor) -> torch.Tensor:
        rows = features.transpose(0, 1).flatten(1)
        return (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-6)

    entries = 2 * 4 * 4
    expected = torch.nn.functional.mse_loss(official(student), official(teacher)) / 2 * entries / (entries - 1)
    torch.testing.assert_close(pkd_loss(student, teacher), expected, rtol=1e-5, atol=0)


@both_statistics
@pytest.mark.parametrize("noise", [0.0, 1e-6])
@pytest.mark.parametrize("owner", ["student", "teacher"])
def test_a_dead_channel_does_not_take_over_the_gradient(statistics, noise, owner):
    """Without the floor, noise of 1e-6 would have a gradient a million times that of a live channel."""
    student, teacher = torch.randn(2, 2, 8, 6, 6, dtype=torch.float64).unbind()
    (student if owner == "student" else teacher)[:, 0] = 0.5 + noise * torch.randn(2, 6, 6)
    loss = pkd_loss(student, teacher, statistics=statistics)
    assert loss.item() == pytest.approx(reference([student], [teacher], statistics=statistics))
    grad = grad_of(student, teacher, statistics=statistics)
    assert grad.isfinite().all()
    assert grad[:, 0].abs().max() < 200 * grad[:, 1:].abs().max()


@both_statistics
def test_constant_maps_have_a_bounded_gradient(statistics):
    """Where nothing varies, the least standard deviation is 1e-6; both sides dead are equal."""
    flat, teacher = torch.full((1, 2, 3, 3), 4.0), torch.randn(1, 2, 3, 3)
    assert pkd_loss(flat, flat + 1, statistics=statistics).item() == 0
    assert not grad_of(flat, flat + 1, statistics=statistics).any()
    assert pkd_loss(flat, teacher, statistics=statistics).item() == pytest.approx(0.5)
    assert grad_of(flat, teacher, statistics=statistics).abs().max() < 1e6


@both_statistics
def test_a_single_cell_stays_finite(statistics):
    grad = grad_of(torch.randn(1, 4, 1, 1), torch.randn(1, 4, 1, 1), statistics=statistics)
    assert not grad.any()


def test_other_statistics_are_refused():
    with pytest.raises(ValueError, match='expected statistics "batch" or "image", got \'channel\''):
        pkd_loss(channel(0, 1), channel(0, 1), statistics="channel")
