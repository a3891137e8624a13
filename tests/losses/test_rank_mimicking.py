"""What rank mimicking must give, by the values of its specification."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import rank_mimicking_loss
from kdet.ops.segments import group_numbers
from losses.cases.rank_mimicking import reference

TEACHER = torch.tensor([0.9, 0.2, 0.4])
STUDENT = torch.tensor([0.2, 0.4, 0.9])
ONE_OBJECT = torch.zeros(3, dtype=torch.int64)


def test_the_example_of_the_specification():
    assert rank_mimicking_loss(STUDENT, TEACHER, ONE_OBJECT, 1).item() == pytest.approx(0.141, abs=5e-4)


def test_another_order_of_the_same_scores_costs():
    """A loss on sorted scores would be zero here."""
    assert rank_mimicking_loss(TEACHER.roll(1), TEACHER, ONE_OBJECT, 1) > 0.01


def test_a_constant_on_the_logits_of_one_object_changes_nothing():
    student, teacher = torch.randn(2, 8).unbind()
    index = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    shifted = student + 5 * (index == 1)
    torch.testing.assert_close(
        rank_mimicking_loss(shifted, teacher, index, 3), rank_mimicking_loss(student, teacher, index, 3)
    )


def test_single_candidates_give_exactly_nothing():
    student = torch.randn(4, requires_grad=True)
    loss = rank_mimicking_loss(student, torch.randn(4), torch.tensor([3, 1, 2, 0]), 4)
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("count", [2, 2.0, torch.tensor(2), torch.tensor(2.0)])
def test_the_number_of_objects_divides(count):
    loss = rank_mimicking_loss(STUDENT, TEACHER, ONE_OBJECT, count)
    torch.testing.assert_close(loss, rank_mimicking_loss(STUDENT, TEACHER, ONE_OBJECT, 1) / 2)


def test_objects_may_be_numbered_as_one_likes():
    student, teacher = torch.randn(2, 6).unbind()
    dense = rank_mimicking_loss(student, teacher, torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    sparse = rank_mimicking_loss(student, teacher, torch.tensor([10**12, 10**12, 5, 5, 70, 70]), 3)
    torch.testing.assert_close(sparse, dense)


def test_extreme_logits_stay_finite():
    student = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    loss = rank_mimicking_loss(student, -student.detach(), ONE_OBJECT, 1)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-8, 8), st.floats(-8, 8)), min_size=1, max_size=30))
def test_equals_the_loop_for_any_grouping(entries):
    index, student, teacher = (list(column) for column in zip(*entries, strict=True))
    tensors = torch.tensor(student).double(), torch.tensor(teacher).double(), torch.tensor(index)
    loss = rank_mimicking_loss(*tensors, 3)
    assert loss.item() == pytest.approx(reference(*tensors, 3), rel=1e-9, abs=1e-12)
    assert loss.item() >= -1e-12


def test_groups_are_renumbered_in_ascending_order_where_numbers_are_sparse():
    numbers, bound = group_numbers(torch.tensor([10**9, 4, 10**9, 7]))
    assert numbers.tolist() == [2, 0, 2, 1] and bound == 4


@pytest.mark.parametrize(
    ("index", "temperature", "message"),
    [
        (torch.zeros(2, dtype=torch.int64), 1.0, "expected an integer object_index of 3 entries"),
        (torch.zeros(3), 1.0, "got torch.float32"),
        (torch.tensor([0, -1, 0]), 1.0, "expected group numbers of at least 0, got -1"),
        (ONE_OBJECT, 0.0, "expected a temperature above 0, got 0.0"),
    ],
)
def test_wrong_input_is_refused(index, temperature, message):
    with pytest.raises(ValueError, match=message):
        rank_mimicking_loss(STUDENT, TEACHER, index, 1, temperature=temperature)
