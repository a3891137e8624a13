"""For every test: the CPU, one thread, so that several processes share the cores, and a fixed seed."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# A GPU's sums come in any order, and most tests compare bits. `make test-gpu` names one, for the tests that want it.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

torch.set_num_threads(1)

# Without its clocks: a slow machine is no fault.
settings.register_profile("kdet", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kdet")


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """The global generator starts alike in each test."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU say so where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU, which `make test-gpu` looks for"))
