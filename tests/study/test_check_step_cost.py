"""What a forward pass keeps, counted where it can be counted by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kdet.study.step_cost import kept_for_backward
from kdet.train.engine import Engine
from kdet.types import Batch


class Squares(nn.Module):
    """Σ (w·x)^2 as often as wanted: each square keeps its input, the product keeps x and w."""

    def __init__(self, squares: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 8, 8))
        self.squares = squares

    def forward(self, batch: Batch) -> SimpleNamespace:
        value = batch.images * self.weight
        for _ in range(self.squares):
            value = value.square()
        return SimpleNamespace(total=value.sum())


@pytest.mark.parametrize("squares", [0, 1, 3])
def test_every_square_keeps_one_map_and_images_and_weights_are_not_counted(squares: int) -> None:
    images = torch.rand(2, 3, 8, 8)
    batch = Batch(images=images, sizes_hw=[(8, 8)] * 2, original_sizes_hw=[(8, 8)] * 2, image_ids=[1, 2])
    assert kept_for_backward(Squares(squares), batch, Engine()) == squares * images.nbytes


def test_what_two_operations_keep_together_is_counted_once() -> None:
    class Twice(Squares):
        def forward(self, batch: Batch) -> SimpleNamespace:
            value: Tensor = batch.images * self.weight
            return SimpleNamespace(total=(value.square() + value.square()).sum())

    batch = Batch(images=torch.rand(1, 3, 8, 8), sizes_hw=[(8, 8)], original_sizes_hw=[(8, 8)], image_ids=[1])
    assert kept_for_backward(Twice(0), batch, Engine()) == batch.images.nbytes
