"""Random numbers that depend on named integers alone, so that workers, order and resume do not matter."""

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*key: int) -> int:
    """A 63-bit seed made of integers; every part of the key matters, and their order too."""
    # SeedSequence sees zeros at the end and the number of words of a large integer not at all: two words for each part
    # (two's complement for negative ones), and the number of parts first, keep distinct keys distinct.
    words = [len(key), *(part >> shift & 0xFFFF_FFFF for part in key for shift in (0, 32))]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(*key: int) -> Generator[None]:
    """Inside, the generators of torch (CPU), numpy and Python follow from the key; afterwards they are as before."""
    seed = seed_of(*key)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    # The default generator itself: `torch.manual_seed` would reseed the accelerators, too.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
