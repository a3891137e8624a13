"""Every loss on a GPU is that of the CPU in float64, also where products of matrices may be rounded."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdet.losses import structural_loss
from losses.contract import Case, Inputs, every_case

pytestmark = pytest.mark.gpu


@pytest.fixture(params=["highest", "high"])
def products(request: pytest.FixtureRequest) -> Iterator[None]:
    """ "high" lets float32 products round to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


def on_gpu(inputs: Inputs) -> Inputs:
    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.cuda()
        return [moved(one) for one in value] if isinstance(value, list) else value

    extra, keywords = tuple(moved(one) for one in inputs.extra), {k: moved(v) for k, v in inputs.keywords.items()}
    return replace(inputs.map(Tensor.cuda), extra=extra, keywords=keywords)


def value_and_gradients(case: Case, inputs: Inputs) -> list[Tensor]:
    inputs = inputs.requiring_grad()
    loss = case(inputs)
    gradients = torch.autograd.grad(loss, inputs.leaves(), allow_unused=True)
    return [
        loss.detach(),
        *(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs.leaves(), strict=True)),
    ]


@pytest.mark.parametrize("case", [case for case in every_case() if case.call is None], ids=str)
def test_is_that_of_the_cpu(case: Case, products: None) -> None:
    inputs = case.make(torch.Generator().manual_seed(0), torch.float64)
    wanted = value_and_gradients(case, inputs)
    found = value_and_gradients(case, on_gpu(inputs.map(Tensor.float)))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.is_cuda
        atol = 1e-3 * float(theirs.abs().max()) + 1e-7
        torch.testing.assert_close(ours.double().cpu(), theirs, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("normalize", ["channel", "sample", None])
@pytest.mark.parametrize("size_hw", [(100, 152), (25, 38), (4, 5)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_structural_on_maps_of_a_real_size(size_hw, normalize, layout, products) -> None:
    maps = [torch.rand(2, 32, *size_hw, dtype=torch.float64) for _ in range(2)]
    wanted = maps[0].clone().requires_grad_()
    structural_loss(wanted, maps[1], normalize=normalize).backward()
    student, teacher = (one.float().cuda().contiguous(memory_format=layout) for one in maps)
    student.requires_grad_()
    loss = structural_loss(student, teacher, normalize=normalize)
    loss.backward()
    assert loss.item() == pytest.approx(structural_loss(*maps, normalize=normalize).item(), rel=1e-5)
    torch.testing.assert_close(student.grad.double().cpu(), wanted.grad, rtol=1e-2, atol=1e-3 * wanted.grad.abs().max())
