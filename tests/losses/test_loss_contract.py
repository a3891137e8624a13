"""Every loss of `LOSSES`, with every option, keeps the same promises."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdet.losses import LOSSES
from losses.contract import Case
from losses.contract import every_case as all_cases

CASES = all_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=str)
one_case_each = pytest.mark.parametrize(
    "case", [next(c for c in CASES if c.loss == name) for name in LOSSES], ids=lambda c: c.loss
)

every_case_in_time = pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=() if c.loss != before.loss else pytest.mark.long)
        for before, c in pairwise([CASES[-1], *CASES])
    ],
    ids=str,
)
"""The options beside a loss's first are for the long suite."""


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gradients(case: Case, inputs) -> tuple[Tensor, list[Tensor]]:
    inputs = inputs.requiring_grad()
    loss = case(inputs)
    grads = torch.autograd.grad(loss, inputs.leaves(), allow_unused=bool(case.detached))
    return loss.detach(), [torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs.leaves(), strict=True)]


@every_case
def test_equals_the_loop(case, generator):
    inputs = case.make(generator, torch.float64)
    loss = case(inputs)
    assert loss.shape == () and loss.dtype == torch.float64
    # A square root under the formula carries an epsilon of 1e-8.
    assert loss.item() == pytest.approx(case.expected(inputs), rel=1e-5 if case.has_roots else 1e-10)


@one_case_each
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1), magnitude=st.floats(-4, 0.5))
@settings(max_examples=20)
def test_equals_the_loop_at_any_size_of_batch_and_values(case, seed, share, magnitude):
    """Other shapes of maps are each loss's own affair, in its own tests."""
    whole = case.make(torch.Generator().manual_seed(seed), torch.float64)
    most = len(whole.leaves()[0])
    part = case.permute(whole, torch.arange(max(1, round(share * most)))).map(lambda t: t * 10**magnitude)
    rounding = 1e-5 if case.has_roots else 1e-7
    assert case(part).item() == pytest.approx(case.expected(part), rel=rounding, abs=1e-12)
    _, grads = gradients(case, part.map(lambda t: t.float()))
    assert all(grad.isfinite().all() for grad in grads)


@every_case
def test_gradient_is_the_derivative(case, generator):
    inputs = case.make(generator, torch.float64).requiring_grad()
    for group in case.detached:
        for constant in inputs.student[group]:
            constant.requires_grad_(False)
    leaves = [leaf for leaf in inputs.leaves() if leaf.requires_grad]
    torch.autograd.gradcheck(lambda *_: case(inputs), leaves, fast_mode=True)


@every_case
def test_no_gradient_reaches_the_teacher(case, generator):
    inputs = case.make(generator, torch.float32).requiring_grad()
    teachers = [tensor.requires_grad_() for group in inputs.teacher for tensor in group]
    case(inputs).backward()
    assert all(tensor.grad is None for tensor in teachers)


@one_case_each
def test_nothing_selected_is_a_zero_with_a_graph(case):
    inputs = case.empty().requiring_grad()
    loss = case(inputs)
    assert loss.item() == 0
    loss.backward()
    assert all(leaf.grad is not None and leaf.grad.shape == leaf.shape for leaf in inputs.leaves())


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_in_and_float32_comes_out(case, dtype, generator):
    half = case.make(generator, dtype)
    loss, grads = gradients(case, half)
    assert loss.dtype == torch.float32 and all(grad.dtype == dtype for grad in grads)
    torch.testing.assert_close(loss, case(half.map(lambda t: t.float())))


@every_case
def test_autocast_changes_nothing(case, generator):
    inputs = case.make(generator, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, grads = gradients(case, inputs)
    plain_loss, plain_grads = gradients(case, inputs)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, plain_loss)
    for grad, plain in zip(grads, plain_grads, strict=True):
        torch.testing.assert_close(grad, plain, rtol=1e-4, atol=1e-7)


@every_case
def test_order_of_the_batch_does_not_matter(case, generator):
    inputs = case.make(generator, torch.float64)
    order = torch.randperm(len(inputs.leaves()[0]), generator=generator)
    order = order if not torch.equal(order, order.sort().values) else order.flip(0)
    loss, grads = gradients(case, inputs)
    permuted_loss, permuted_grads = gradients(case, case.permute(inputs, order))
    torch.testing.assert_close(permuted_loss, loss)
    for grad, permuted in zip(grads, permuted_grads, strict=True):
        torch.testing.assert_close(permuted, grad[order])


@pytest.mark.parametrize("case", [c for c in CASES if c.zero_when_equal], ids=str)
def test_equal_models_have_nothing_to_learn(case, generator):
    loss, grads = gradients(case, case.make(generator, torch.float32).equal())
    # Under a power other than 1 the square roots' epsilon shows.
    assert loss.item() == pytest.approx(0, abs=1e-6 if case.has_roots else 1e-7)
    assert all(grad.abs().max() < 1e-6 for grad in grads)


@every_case
def test_layout_does_not_matter(case, generator):
    inputs = case.make(generator, torch.float64)
    loss, grads = gradients(case, inputs)
    for change in (scattered, channels_last):
        inputs_there = inputs.map(change)
        other_loss, other_grads = gradients(case, inputs_there)
        torch.testing.assert_close(other_loss, loss)
        for grad, other in zip(grads, other_grads, strict=True):
            torch.testing.assert_close(other, grad)


def scattered(tensor: Tensor) -> Tensor:
    """The same numbers, none beside the next in memory."""
    spread = tensor.repeat_interleave(2, dim=-1)
    assert not spread[..., ::2].is_contiguous()
    return spread[..., ::2]


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


@pytest.mark.long
@every_case_in_time
def test_compiled_equals_eager(case, generator):
    inputs = case.make(generator, torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(lambda made: case(made), backend="aot_eager", fullgraph=True)
    eager_inputs, compiled_inputs = inputs.requiring_grad(), inputs.requiring_grad()
    eager, fast = case(eager_inputs), compiled(compiled_inputs)
    torch.testing.assert_close(fast, eager)
    fast.backward()
    eager.backward()
    for there, here in zip(compiled_inputs.leaves(), eager_inputs.leaves(), strict=True):
        torch.testing.assert_close(there.grad, here.grad, rtol=1e-4, atol=1e-6)


@one_case_each
def test_nan_is_refused_and_named(case, generator):
    inputs = case.make(generator, torch.float32)
    inputs.teacher[0][-1].view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=r"expected numbers, got NaN in .*teacher"):
        case(inputs)


@one_case_each
def test_integers_are_refused(case, generator):
    inputs = case.make(generator, torch.float32)
    inputs.student[0][0] = inputs.student[0][0].long()
    with pytest.raises(ValueError, match=r"expected a floating-point tensor .* of the student, got torch.int64"):
        case(inputs)


@one_case_each
def test_other_shapes_are_refused(case, generator):
    axes = range(case.make(generator, torch.float32).teacher[0][0].ndim)
    for axis in set(axes) - set(case.own_axes):
        inputs = case.make(generator, torch.float32)
        inputs.teacher[0][0] = inputs.teacher[0][0].narrow(axis, 0, 1)
        with pytest.raises(ValueError, match=r"expected .*, got "):
            case(inputs)


@one_case_each
def test_arguments_are_left_as_they_were(case, generator):
    inputs = case.make(generator, torch.float32)
    before = inputs.map(torch.clone)
    gradients(case, inputs)
    for now, then in zip(inputs.student + inputs.teacher, before.student + before.teacher, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(now, then, strict=True))
