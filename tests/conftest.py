"""For every test: one thread, so that several processes share the cores, and a fixed seed."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """The global generator starts alike in each test."""
    torch.manual_seed(0)
