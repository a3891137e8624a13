"""Random numbers that depend on named integers alone, so that workers, order and resume do not matter."""

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator


def seed_of(*key: int) -> int:
    """Return a 63-bit seed made of integers; every part of the key matters, and their order too."""
    # SeedSequence sees zeros at the end and the number of words of a large integer not at all: two words for each part
    # (two's complement for negative ones), and the number of parts first, keep distinct keys distinct.
    words = [len(key), *(part >> shift & 0xFFFF_FFFF for part in key for shift in (0, 32))]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(*key: int, device: torch.device | None = None) -> Generator[None]:
    """Seed the generators of torch, numpy and Python from the key; afterwards they are as before.

    Args:
        key: named integers.
        device: an accelerator (with its number) whose generator follows, too; None = the CPU's alone, as in the
            workers of a loader.
    """
    seed = seed_of(*key)
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    of_python, of_numpy = random.getstate(), get_bit_generator()
    spare = _spares.pop() if _spares else np.random.MT19937()  # numpy takes long to read its state and to write it
    for generator in generators:
        generator.manual_seed(seed)
    set_bit_generator(spare)
    np.random.seed(seed & 0xFFFF_FFFF)
    random.seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        set_bit_generator(of_numpy)
        random.setstate(of_python)
        _spares.append(spare)


_spares: list[np.random.MT19937] = []
"""Spare generators of numpy, one for each `seeded` inside another."""


def _generators(device: torch.device | None) -> list[torch.Generator]:
    """torch's of the CPU, and that of one accelerator: `torch.manual_seed` would reseed all accelerators."""
    if device is None or device.type == "cpu":
        return [torch.default_generator]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]  # pyright: ignore[reportPrivateUsage]
    return [torch.default_generator, torch.get_device_module(device).default_generators[device.index]]
