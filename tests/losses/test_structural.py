"""What the structural loss must give, by the values of its specification."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kdet.losses import structural_loss
from kdet.ops.ssim import gpu as similarity_by_levels
from kdet.ops.ssim.fused import mean_dissimilarity
from kdet.ops.ssim.one_pass import Options
from kdet.ops.ssim.reference import (
    Exponents,
    contrast,
    contrast_and_structure,
    luminance,
    moments,
    similarity,
    structure,
)
from kdet.ops.ssim.scale import rescale, taught


@pytest.fixture
def teacher() -> torch.Tensor:
    return torch.rand(2, 8, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def independent() -> torch.Tensor:
    return torch.rand(2, 8, 24, 24, generator=torch.Generator().manual_seed(2))


def grad_of(student: torch.Tensor, teacher: torch.Tensor, **options) -> torch.Tensor:
    student = student.detach().clone().requires_grad_()
    structural_loss(student, teacher, **options).backward()
    assert student.grad is not None
    return student.grad


@pytest.mark.parametrize("change", [lambda t: t, lambda t: 3 * t + 2, lambda t: 0.1 * t - 5, lambda t: 1000 * t])
def test_an_affine_copy_is_as_good_as_the_teacher(teacher, change):
    loss = structural_loss(change(teacher), teacher)
    assert 0 <= loss.item() < 1e-6


def test_known_values(teacher, independent):
    assert structural_loss(-teacher, teacher).item() == pytest.approx(0.98, abs=0.01)
    assert structural_loss(independent, teacher).item() == pytest.approx(0.51, abs=0.02)
    assert structural_loss(torch.full_like(teacher, 0.3), teacher).item() == pytest.approx(0.50, abs=0.01)


def test_one_cell_by_hand():
    """A 1×1 map has no spread, so only the luminance is left: s = 0.2, t = 0.6."""
    s, t = torch.full((1, 1, 1, 1), 0.2), torch.full((1, 1, 1, 1), 0.6)
    expected = (1 - (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)) / 2
    assert structural_loss(s.double(), t.double(), normalize=None).item() == pytest.approx(expected)
    # In float32 the difference of two blurs, about 1e-7, is not nothing beside C2.
    assert structural_loss(s, t, normalize=None).item() == pytest.approx(expected, rel=1e-3)
    assert structural_loss(s, t).item() == 0


def test_a_window_of_one_cell_compares_values_alone(teacher, independent):
    s, t = independent.double(), teacher.double()
    expected = (1 - (2 * s * t + 1e-4) / (s.square() + t.square() + 1e-4)).mean() / 2
    torch.testing.assert_close(structural_loss(s, t, window=1, normalize=None), expected)


def test_two_factors_equal_three(teacher, independent):
    m = moments(independent.double(), teacher.double(), 11, 1.5)
    three = luminance(m) * contrast(m, eps=0) * structure(m, eps=0)
    assert (luminance(m) * contrast_and_structure(m) - three).abs().max() <= 1e-15


def test_levels_are_summed_and_weights_are_linear(teacher, independent):
    one = structural_loss(independent, teacher)
    small = structural_loss(independent[..., :9, :7], teacher[..., :9, :7])
    both = structural_loss([independent, independent[..., :9, :7]], [teacher, teacher[..., :9, :7]])
    torch.testing.assert_close(both, one + small)
    student = independent.clone().requires_grad_()
    (4.0 * structural_loss(student, teacher)).backward()
    torch.testing.assert_close(student.grad, 4 * grad_of(independent, teacher))


def test_shuffled_channels_cost_much_by_channel_and_little_by_sample():
    """Why the default is "channel": with one heavy channel the others vanish in the range of the image."""
    teacher = torch.rand(1, 8, 24, 24, generator=torch.Generator().manual_seed(3))
    teacher[:, 0] *= 300
    shuffled = teacher[:, [0, 2, 3, 4, 5, 6, 7, 1]]
    by_channel = structural_loss(shuffled, teacher, normalize="channel")
    assert structural_loss(shuffled, teacher, normalize="sample") < 0.1 * by_channel


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (5, 200), (6, 6), (1, 40), (11, 4)])
@pytest.mark.parametrize("normalize", ["channel", "sample", None])
def test_any_size_works(size, normalize, device_way):
    student, teacher = torch.rand(2, 3, *size, requires_grad=True), torch.rand(2, 3, *size)
    loss = structural_loss(student, teacher, normalize=normalize)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_dead_and_nearly_dead_channels_do_not_take_over(teacher, device_way):
    """Constant, all-zero and nearly constant channels, more than half of the map, beside ordinary ones."""
    student = torch.rand(2, 8, 24, 24, generator=torch.Generator().manual_seed(4))
    student[:, 0], student[:, 1] = 0.7, 0.0
    student[:, 2] = 0.7 + 1e-6 * student[:, 2]
    student[:, 3:5] = 0.0
    for normalize in ("channel", "sample"):
        grad = grad_of(student, teacher, normalize=normalize)
        ordinary = grad[:, 5:].norm(dim=(2, 3)).mean()
        assert grad.isfinite().all()
        assert grad[:, :5].norm(dim=(2, 3)).max() < 1000 * ordinary
    assert grad_of(torch.zeros_like(teacher), teacher).isfinite().all()
    assert grad_of(student, torch.zeros_like(teacher)).isfinite().all()


@pytest.mark.parametrize("constant", [0.0, 3.0])
@pytest.mark.parametrize("options", [{}, {"gamma": 2.0}])
def test_what_the_teachers_dead_channels_cost_is_nothing(teacher, independent, constant, options, device_way):
    """No student's channel can follow a constant one, and it would grow a peak without end.

    The others count as they did: the mean is over all channels.
    """
    whole = grad_of(independent, teacher, **options)
    value = structural_loss(independent[:, 2:], teacher[:, 2:], **options) * 6 / 8
    teacher[:, :2] = constant
    teacher[1, 1] += 1e-6 * torch.rand(24, 24)
    torch.testing.assert_close(structural_loss(independent, teacher, **options), value)
    grad = grad_of(independent, teacher, **options)
    assert not grad[:, :2].any()
    torch.testing.assert_close(grad[:, 2:], whole[:, 2:])
    assert structural_loss(independent, torch.full_like(teacher, constant), **options) == 0


def test_a_teacher_of_tiny_features_is_small_and_not_dead(independent, teacher, device_way):
    teacher[:, 1] = 0.0
    grad = grad_of(independent, 1e-8 * teacher)
    assert grad[:, 0].any() and not grad[:, 1].any()


def test_a_channel_that_is_dead_in_one_image_alone_still_teaches_in_the_other(teacher, independent, device_way):
    teacher[0, 3] = 0.0
    grad = grad_of(independent, teacher)
    assert not grad[0, 3].any() and grad[1, 3].any()


def test_anti_correlated_maps_keep_their_gradient(teacher):
    """A clamp of s at 0 would leave nothing to learn from where teacher and student run against each other."""
    grad = grad_of(-teacher, teacher, alpha=0.0, beta=0.0)
    assert (grad.abs() > 0).float().mean() > 0.99


def test_a_fractional_exponent_is_finite_on_anti_correlated_maps(teacher):
    loss = structural_loss(-teacher, teacher, gamma=0.5)
    assert loss.isfinite() and grad_of(-teacher, teacher, gamma=0.5).isfinite().all()


def test_exponent_zero_leaves_its_factor_out(teacher, independent):
    s, t = rescale(independent, "channel"), rescale(teacher, "channel")
    expected = (1 - luminance(moments(s, t, 11, 1.5)).mean()) / 2
    torch.testing.assert_close(structural_loss(independent, teacher, beta=0.0, gamma=0.0), expected)


@pytest.fixture(params=["by chunks", "by levels"])
def device_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way of a processor, and that of accelerators, which works on any device."""
    if request.param == "by levels":
        monkeypatch.setattr("kdet.ops.ssim.fused.similarity_by_chunks", similarity_by_levels)
    return request.param


def plain_loss(student: torch.Tensor, teacher: torch.Tensor, normalize) -> torch.Tensor:
    """As the formula reads."""
    values = similarity(rescale(student, normalize), rescale(teacher, normalize).detach(), Exponents(), 11, 1.5)
    return ((1 - values) * taught(teacher, normalize).detach()).mean() / 2


@pytest.mark.parametrize("normalize", ["channel", "sample", None])
@pytest.mark.parametrize("size", [(24, 24), (6, 30), (4, 30), (31, 7), (32, 32), (13, 11), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk_cells", [1, 2**13])
def test_the_fast_path_is_the_formula(normalize, size, layout, chunk_cells, monkeypatch, device_way):
    """Value and gradient, with chunks so small that channels, or else images, are split unevenly."""
    monkeypatch.setattr("kdet.ops.ssim.cpu.CHUNK_CELLS_PER_THREAD", chunk_cells)
    monkeypatch.setattr("kdet.ops.ssim.gpu.MOST_CELLS", chunk_cells)
    student, teacher = torch.rand(2, 3, 20, *size, dtype=torch.float64).unbind()
    teacher[1, ::3] = 0.25
    student, teacher = (t.contiguous(memory_format=layout).requires_grad_() for t in (student, teacher))
    fast = mean_dissimilarity([(student, teacher.detach())], Options(normalize, 11, 1.5))
    plain = plain_loss(student, teacher, normalize)
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)
    (fast_grad,), (plain_grad,) = (torch.autograd.grad(3 * loss, student) for loss in (fast, plain))
    torch.testing.assert_close(fast_grad, plain_grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("normalize", ["channel", "sample", None])
@pytest.mark.parametrize("most_cells", [1, 2**11, 2**20])
def test_levels_of_all_kinds_in_one_pass(normalize, most_cells, monkeypatch, device_way):
    """Sizes, channels and numbers of images differ, one level is empty; ends of ranges are tied.

    Not under "sample": the plain formula shares among channels before it shares among cells.
    """
    monkeypatch.setattr("kdet.ops.ssim.gpu.MOST_CELLS", most_cells)
    shapes = [(3, 4, 13, 9), (3, 4, 6, 6), (3, 7, 4, 5), (3, 4, 0, 5), (2, 7, 4, 5), (3, 4, 2, 1)]
    students = [4 * torch.rand(shape, dtype=torch.float64) for shape in shapes]
    students = [(one if normalize == "sample" else one.round()).requires_grad_() for one in students]
    teachers = [torch.rand(shape, dtype=torch.float64) for shape in shapes]
    for one in teachers:
        one[0, :2] = 0.5
    fast = mean_dissimilarity(list(zip(students, teachers, strict=True)), Options(normalize, 11, 1.5))
    full = [pair for pair in zip(students, teachers, strict=True) if pair[0].numel()]
    plain = torch.stack([plain_loss(*pair, normalize) for pair in full]).sum()
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)
    for fast_grad, plain_grad in zip(
        *(torch.autograd.grad(loss, [student for student, _ in full]) for loss in (fast, plain)), strict=True
    ):
        torch.testing.assert_close(fast_grad, plain_grad, rtol=1e-8, atol=1e-12)


class Kernels(TorchDispatchMode):
    """Counts the operations that compute something."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view and not func.overloadpacket.__name__.startswith(("empty", "new_empty"))
        return func(*args, **(kwargs or {}))


def test_by_levels_most_kernels_are_launched_once_for_all_of_them(device_way):
    """Launches from Python are what the loss costs an accelerator."""
    levels = [(torch.rand(2, 8, side, side, requires_grad=True), torch.rand(2, 8, side, side)) for side in range(8, 13)]

    def launches(some) -> int:
        with Kernels() as kernels:
            mean_dissimilarity(some, Options("channel", 11, 1.5)).backward()
        return kernels.count

    one, five = launches(levels[:1]), launches(levels)
    assert (five < 2.5 * one) == (device_way == "by levels")


@pytest.mark.parametrize("size", [(30, 40), (12, 12)])
def test_the_fast_path_is_exact_in_float32_whatever_the_precision_of_products(size, device_way):
    student, teacher = torch.rand(2, 1, 16, *size).unbind()
    exact = grad_of(student.double(), teacher.double())
    before = torch.get_float32_matmul_precision()
    try:
        for speed in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(speed)
            gap = (grad_of(student, teacher) - exact).norm() / exact.norm()
            assert gap < 1e-4
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("normalize", ["channel", "sample", None])
@pytest.mark.parametrize("size", [(7, 9), (3, 6), pytest.param((6, 25), marks=pytest.mark.long)])
def test_the_fast_gradient_is_the_derivative(normalize, size, device_way):
    student, teacher = torch.rand(2, 2, 2, *size, dtype=torch.float64).unbind()
    student.requires_grad_()
    options = Options(normalize, 11, 1.5)
    assert torch.autograd.gradcheck(lambda s: mean_dissimilarity([(s, teacher)], options), student)


def test_ties_share_the_gradient_of_the_range(device_way):
    """Two lowest and three highest cells: the plain formula splits their gradient evenly, and so does the fast one."""
    student = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    student.view(-1)[[3, 40]], student.view(-1)[[7, 8, 50]] = -1.0, 2.0
    teacher = torch.rand_like(student)
    student.requires_grad_()
    fast = mean_dissimilarity([(student, teacher)], Options("channel", 11, 1.5))
    plain = plain_loss(student, teacher, "channel")
    (fast_grad,), (plain_grad,) = (torch.autograd.grad(loss, student) for loss in (fast, plain))
    torch.testing.assert_close(fast_grad, plain_grad)


def test_no_gradient_is_computed_where_none_is_wanted(teacher, independent, device_way):
    assert not structural_loss(independent, teacher).requires_grad
    with torch.no_grad():
        assert not structural_loss(independent.requires_grad_(), teacher).requires_grad


def test_backward_twice(teacher, independent, device_way):
    student = independent.requires_grad_()
    loss = structural_loss(student, teacher)
    (first,) = torch.autograd.grad(loss, student, retain_graph=True)
    kept = first.clone()
    first.zero_()  # it belongs to the caller
    (second,) = torch.autograd.grad(loss, student)
    assert torch.equal(kept, second)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


maps = st.tuples(*(st.integers(1, most) for most in (3, 5, 14, 14)), st.integers(0, 2**31))


@settings(max_examples=60)
@given(maps, st.sampled_from(["channel", "sample", None]), st.floats(-6, 6), st.booleans())
def test_bounded_for_any_map(shape_and_seed, normalize, magnitude, rounded):
    """0 ≤ loss ≤ 1 and a finite gradient, whatever the scale of the features; ties included."""
    *shape, seed = shape_and_seed
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.rand(2, *shape, generator=generator).unbind()
    if rounded:
        student = (4 * student).round()
    student = student if normalize is None else student * 10**magnitude
    student = (student if normalize or not rounded else student / 4).requires_grad_()
    loss = structural_loss(student, teacher, normalize=normalize)
    loss.backward()
    assert 0 <= loss.item() <= 1 and math.isfinite(loss.item())
    assert student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 10}, "expected an odd window of at least 1, got 10"),
        ({"window": -1}, "expected an odd window"),
        ({"sigma": 0.0}, "expected a sigma above 0, got 0.0"),
        ({"normalize": "batch"}, 'expected normalize "channel", "sample" or None, got \'batch\''),
        ({"alpha": -1.0}, "expected exponents of at least 0"),
        ({"alpha": 0.0, "beta": 0.0, "gamma": 0.0}, "one above it"),
    ],
)
def test_wrong_options_are_refused(teacher, options, message):
    with pytest.raises(ValueError, match=message):
        structural_loss(teacher, teacher, **options)


@pytest.mark.parametrize(
    ("teacher_levels", "message"),
    [
        ([], "got 1 of the student and 0 of the teacher"),
        ([torch.rand(1, 2, 4, 4)] * 2, "got 1 of the student and 2 of the teacher"),
        ([torch.rand(1, 3, 4, 4)], "1×1 convolution"),
        ([torch.rand(1, 2, 4, 5)], "resize_like"),
        ([torch.rand(2, 2, 4, 4)], "to be the student's 1×2×4×4, got 2×2×4×4"),
    ],
)
def test_levels_that_do_not_fit_are_refused(teacher_levels, message):
    with pytest.raises(ValueError, match=message):
        structural_loss([torch.rand(1, 2, 4, 4)], teacher_levels)


def test_a_map_without_batch_is_refused():
    with pytest.raises(ValueError, match="expected N×C×H×W at level 0, got a student of shape 2×4×4"):
        structural_loss(torch.rand(2, 4, 4), torch.rand(2, 4, 4))
