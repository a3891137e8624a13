"""Our similarity against other packages', on cells that no border reaches. They are not installed with the tests."""

import pytest
import torch

from kdet.ops.ssim.reference import Exponents, similarity


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 32, 40, generator=generator), torch.rand(2, 3, 32, 40, generator=generator)


def ours(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return similarity(*pair, Exponents(), 11, 1.5)[..., 5:-5, 5:-5]


def test_kornia(pair):
    metrics = pytest.importorskip("kornia.metrics", reason="kornia is an oracle, not a dependency")
    theirs = metrics.ssim(*pair, 11)[..., 5:-5, 5:-5]
    torch.testing.assert_close(ours(pair), theirs, rtol=1e-4, atol=1e-5)


def test_pytorch_msssim(pair):
    module = pytest.importorskip("pytorch_msssim", reason="pytorch-msssim is an oracle, not a dependency")
    theirs = module.ssim(*pair, data_range=1.0, win_size=11, win_sigma=1.5, size_average=False)
    torch.testing.assert_close(ours(pair).mean((1, 2, 3)), theirs, rtol=1e-4, atol=1e-5)


def test_torchmetrics(pair):
    module = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is an oracle, not a dependency")
    _, theirs = module.structural_similarity_index_measure(
        *pair, sigma=1.5, kernel_size=11, data_range=1.0, return_full_image=True
    )
    torch.testing.assert_close(ours(pair), theirs[..., 5:-5, 5:-5], rtol=1e-4, atol=1e-5)
