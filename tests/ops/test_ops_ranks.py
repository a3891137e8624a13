"""Two real processes over gloo: sums with a gradient, and a loss whose statistics are the whole batch's."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from kdet.losses import pkd_loss
from kdet.ops.ranks import mean_over_ranks, num_ranks, sum_over_ranks

SPLITS = {"1+1": (1, 1), "2+1": (2, 1), "3+0": (3, 0)}
"""Images of the two processes; a process may have none."""


def whole_batch(split: str) -> tuple[list[Tensor], list[Tensor]]:
    """Two levels of features of the whole batch, student and teacher; images of unlike scale and offset."""
    generator = torch.Generator().manual_seed(0)
    images = sum(SPLITS[split])

    def level(*shape: int) -> Tensor:
        features = torch.randn(images, *shape, generator=generator, dtype=torch.float64)
        return features * (1 + torch.arange(images).view(-1, 1, 1, 1)) + torch.randn(
            images, 1, 1, 1, generator=generator
        )

    return [level(3, 5, 4), level(3, 2, 2)], [level(3, 5, 4), level(3, 2, 2)]


def adapter() -> nn.Module:
    """A trained part in front of the loss, of the same weights everywhere."""
    torch.manual_seed(1)
    return nn.Conv2d(3, 3, 1).double()


def loss_and_gradients(module: nn.Module, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Any]:
    """Of the features and of the module's parameters."""
    leaves = [level.clone().requires_grad_() for level in student]
    loss = pkd_loss([module(level) for level in leaves], teacher)
    loss.backward()
    return {
        "loss": loss.detach(),
        "features": [leaf.grad for leaf in leaves],
        "parameters": [parameter.grad for parameter in module.parameters()],
    }


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    x = torch.tensor([1.0, 2.0]) + rank
    x.requires_grad_()
    total = sum_over_ranks(x)
    (total.square() * (rank + 1)).sum().backward()
    found: dict[str, Any] = {
        "ranks": num_ranks(),
        "total": total.detach(),
        "grad": x.grad,
        "mean": mean_over_ranks(torch.tensor(rank)),
    }
    for split, counts in SPLITS.items():
        start = sum(counts[:rank])
        own = [[t[start : start + counts[rank]] for t in side] for side in whole_batch(split)]
        found[split] = loss_and_gradients(DistributedDataParallel(adapter()), *own)
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # at the regular exit, after all is done, gloo's threads now and then abort the process


@pytest.mark.long
def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    """One test, for starting the processes takes most of its time."""
    multiprocessing.spawn(process, (tmp_path,), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for own in found:
        assert own["ranks"] == 2 and own["total"].tolist() == [3, 5] and own["mean"].item() == 0.5
        # Σ_q L_q = (1 + 2) · total², so d/dx_r = 6 · total on either rank.
        assert own["grad"].tolist() == [18, 30]
    for split in SPLITS:
        assert_one_with_the_whole_batch([own[split] for own in found], split)


def assert_one_with_the_whole_batch(found: list[dict[str, Any]], split: str) -> None:
    """DDP averages the losses and the parameters' gradients; a feature's gradient is not averaged, hence the 2."""
    whole = loss_and_gradients(adapter(), *whole_batch(split))
    assert_close(sum(own["loss"] for own in found) / 2, whole["loss"])
    for level, expected in enumerate(whole["features"]):
        assert_close(torch.cat([own["features"][level] for own in found]) / 2, expected)
    for own in found:
        for parameter, expected in zip(own["parameters"], whole["parameters"], strict=True):
            assert_close(parameter, expected)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-12)


def test_images_alone_would_not_be_the_whole_batch():
    """What the sums over ranks are for: the mean of two single images' losses is another number."""
    student, teacher = whole_batch("1+1")
    whole = pkd_loss(student, teacher)
    apart = [pkd_loss([s[n : n + 1] for s in student], [t[n : n + 1] for t in teacher]) for n in range(2)]
    assert abs(sum(apart) / 2 - whole) > 0.01


def test_outside_a_group_the_sum_is_the_tensor_itself():
    x = torch.rand(3, requires_grad=True)
    assert sum_over_ranks(x) is x and num_ranks() == 1
