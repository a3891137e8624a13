"""A validation split taken from the training images, near-duplicates always on one side."""

import numpy as np
from PIL import Image

from kdet.data.index import Ints
from kdet.data.source import Source
from kdet.data.subset import taken
from kdet.errors import InputError
from kdet.ops.randomness import seed_of

_SALT = 20_261_130
"""Keeps this choice apart from every other use of random numbers."""
_PIXELS, _SIDE = 32, 8
"""Side of the small image, and of its lowest frequencies that are the hash."""
_NEAR = 6
"""Bits of 64 in which two images that look alike may differ: another size or quality flips a few."""
_BLOCK = 256
"""Images that are compared with all others at once."""


def divided(source: Source, share: float, seed: int = 0) -> tuple[Source, Source]:
    """Return the rest and this share of the images, at least one group of images that look alike in each.

    Args:
        source: what is divided.
        share: above 0, below 1; groups are taken whole until it is reached.
        seed: another seed, another choice.

    Raises:
        InputError: all images look alike, so that no division is a fair one.
    """
    groups = _groups([perceptual_hash(source, i) for i in range(len(source.index))])
    if len(groups) < 2:
        raise InputError(
            f"{source.index.root}: its {len(source.index)} images look all alike; none can be held back for validation"
        )
    ids = source.index.image_ids
    order = sorted(groups, key=lambda rows: seed_of(_SALT, seed, int(ids[rows[0]])))
    wanted = max(1, round(share * len(source.index)))
    chosen: list[int] = []
    for rows in order[:-1]:
        if len(chosen) < wanted:
            chosen += rows
    rest = np.setdiff1d(np.arange(len(source.index)), chosen)
    return taken(source, rest), taken(source, _sorted(chosen))


def perceptual_hash(source: Source, i: int) -> int:
    """Return 64 bits: which of a small grey image's lowest frequencies (its DCT) are above their median."""
    pixels = Image.fromarray(source.read(i).permute(1, 2, 0).numpy())
    small = np.asarray(pixels.convert("L").resize((_PIXELS, _PIXELS), Image.Resampling.BOX), np.float64)
    steps = np.arange(_PIXELS)
    waves = np.cos(np.pi / _PIXELS * (steps[None, :] + 0.5) * steps[:_SIDE, None])
    found = (waves @ small @ waves.T).ravel().round(6)
    return int.from_bytes(np.packbits(found > np.median(found[1:])).tobytes(), "big")


def _groups(hashes: list[int]) -> list[list[int]]:
    """Positions of the images that look alike, directly or through others, in order."""
    above = list(range(len(hashes)))

    def first(i: int) -> int:
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    bits = np.array([[own >> bit & 1 for bit in range(_SIDE * _SIDE)] for own in hashes], np.float32) * 2 - 1
    for start in range(0, len(bits), _BLOCK):
        apart = (_SIDE * _SIDE - bits[start : start + _BLOCK] @ bits[start:].T) / 2
        for row, other in np.argwhere(apart <= _NEAR).tolist():
            a, b = sorted((first(start + row), first(start + other)))
            above[b] = a
    groups: dict[int, list[int]] = {}
    for i in range(len(hashes)):
        groups.setdefault(first(i), []).append(i)
    return list(groups.values())


def _sorted(rows: list[int]) -> Ints:
    return np.sort(np.array(rows, np.int64))
