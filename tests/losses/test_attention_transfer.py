"""What attention transfer must give, by hand and by the promises of a normalised map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import attention_transfer_loss


def channel(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def grad_of(student: torch.Tensor, teacher: torch.Tensor, **options) -> torch.Tensor:
    student = student.detach().clone().requires_grad_()
    attention_transfer_loss(student, teacher, **options).backward()
    assert student.grad is not None
    return student.grad


def test_a_value_by_hand():
    """Normalised (3, 4) is (0.6, 0.8), the teacher looks at the first cell alone: (0.4² + 0.8²) / 2 cells."""
    student, teacher = channel(3, -4), channel(7, 0)
    assert attention_transfer_loss(student, teacher, power=1.0).item() == pytest.approx(0.4)
    # p = 2: the roots of 3 and 4 give the same attention.
    roots = channel(3**0.5, -2)
    assert attention_transfer_loss(roots, teacher).item() == pytest.approx(0.4)
    # A second image in which the two agree halves the mean over images; a second level adds.
    images = torch.cat([roots, teacher]), torch.cat([teacher, teacher])
    assert attention_transfer_loss(*images).item() == pytest.approx(0.2)
    assert attention_transfer_loss([roots, roots], [teacher, teacher]).item() == pytest.approx(0.8)


def test_only_the_sum_over_channels_counts():
    """Two cells of one channel, or a channel for each cell: the same attention."""
    spread = torch.eye(2, dtype=torch.float64).view(1, 2, 1, 2)
    assert attention_transfer_loss(spread, channel(1, 1)).item() == pytest.approx(0)


@settings(max_examples=25)
@given(
    images=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    power=st.floats(1.0, 4.0),
    seed=st.integers(0, 2**16),
)
def test_scale_sign_and_number_of_channels_change_nothing(images, channels, size, power, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (1 + torch.rand(images, c, *size, generator=generator, dtype=torch.float64) for c in channels)
    loss = attention_transfer_loss(student, teacher, power=power)
    assert 0 <= loss.item() <= 2 / (size[0] * size[1])
    for scaled in (100 * student, -student, torch.cat([student, student], 1)):
        torch.testing.assert_close(attention_transfer_loss(scaled, teacher, power=power), loss)


@pytest.mark.parametrize(("power", "most"), [(1.0, 1e7), (2.0, 1.0)])
def test_a_dead_level_has_a_bounded_gradient(power, most):
    """A gradient grows as the activations shrink, to 10⁹ times its size under noise of 1e-9, unless a floor ends it."""
    teacher = torch.randn(2, 3, 5, 5)
    live = grad_of(torch.randn(2, 3, 5, 5), teacher, power=power)
    dying = grad_of(1e-9 * torch.randn(2, 3, 5, 5), teacher, power=power)
    assert dying.isfinite().all() and dying.abs().max() <= most * live.abs().max()
    assert not grad_of(torch.zeros(2, 3, 5, 5), teacher, power=power).any()


def test_a_single_cell_gives_nothing():
    assert not grad_of(torch.randn(2, 3, 1, 1), torch.randn(2, 5, 1, 1)).any()


def test_other_cells_images_and_levels_are_refused():
    student = torch.randn(2, 4, 5, 5)
    with pytest.raises(ValueError, match="expected the teacher's shape at level 0 to be the student's 2×1×5×5, got"):
        attention_transfer_loss(student, torch.randn(2, 8, 5, 4))
    with pytest.raises(ValueError, match="expected the teacher's shape at level 0"):
        attention_transfer_loss(student, torch.randn(3, 8, 5, 5))
    with pytest.raises(ValueError, match="expected as many levels from the teacher"):
        attention_transfer_loss([student], [student, student])
    with pytest.raises(ValueError, match="expected N×C×H×W at level 0"):
        attention_transfer_loss(student[0], student[0])


def test_a_power_below_one_is_refused():
    with pytest.raises(ValueError, match=r"expected a power of at least 1, got 0.5"):
        attention_transfer_loss(channel(0, 1), channel(0, 1), power=0.5)
