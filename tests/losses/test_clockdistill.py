"""What the distillation of an encoder's memory must give, by hand and on maps of real boxes."""

import pytest
import torch

from kdet.losses import clockdistill_loss
from kdet.ops.regions import background_mask, foreground_by_area

SIZE, PIXELS = (4, 4), (64, 64)


def regions(*boxes: list[list[float]]) -> dict[str, torch.Tensor]:
    each = [torch.tensor(one).reshape(-1, 4) for one in boxes]
    return {
        "foreground": foreground_by_area(each, SIZE, PIXELS),
        "background": background_mask(each, SIZE, PIXELS),
    }


def test_a_value_by_hand():
    """The object has 4 of 16 cells; it differs by 3 there in one channel of two, the rest by 2 in both.

    Mean over channels: 9/2 in each of its cells, each counting 1/4; 4 in the 12 others, each counting 1/12.
    """
    teacher = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    apart = torch.full_like(teacher, 2.0)
    apart[0, :, :2, :2] = torch.tensor([3.0, 0.0]).view(2, 1, 1)
    given = regions([[0.0, 0.0, 32.0, 32.0]])
    assert clockdistill_loss(teacher + apart, teacher, **given).item() == pytest.approx(4.5 + 0.5 * 4)
    two = clockdistill_loss([teacher + apart] * 2, [teacher] * 2, **{name: [m, m] for name, m in given.items()})
    assert two.item() == pytest.approx(2 * 6.5)


def test_a_small_object_counts_as_much_as_a_large_one():
    teacher = torch.zeros(1, 3, 4, 4)
    student = teacher.clone().requires_grad_()
    given = regions([[0.0, 0.0, 16.0, 16.0], [32.0, 32.0, 64.0, 64.0]])
    clockdistill_loss(student + 1, teacher, background_weight=0.0, **given).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad[0, :, 0, 0].sum(), student.grad[0, :, 2:, 2:].sum())
    assert not student.grad[0, :, 0, 1:].any()


def test_an_image_without_objects_is_background():
    student, teacher = torch.randn(2, 1, 3, 4, 4)
    loss = clockdistill_loss(student, teacher, **regions([]))
    torch.testing.assert_close(loss, 0.5 * (student - teacher).square().mean())
