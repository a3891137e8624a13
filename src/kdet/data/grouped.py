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
_SIDE = 8
"""Of the grid of brightness differences that is an image's perceptual hash."""


def divided(source: Source, share: float, seed: int = 0) -> tuple[Source, Source]:
    """The rest and this share of the images, at least one group of images that look alike in each.

    Args:
        source: what is divided.
        share: above 0, below 1; groups are taken whole until it is reached.
        seed: another seed, another choice.

    Raises:
        InputError: all images look alike, so that no division is a fair one.
    """
    groups: dict[int, list[int]] = {}
    for i in range(len(source.index)):
        groups.setdefault(perceptual_hash(source, i), []).append(i)
    if len(groups) < 2:
        raise InputError(
            f"{source.index.root}: its {len(source.index)} images look all alike; none can be held back for validation"
        )
    ids = source.index.image_ids
    order = sorted(groups.values(), key=lambda rows: seed_of(_SALT, seed, int(ids[rows[0]])))
    wanted = max(1, round(share * len(source.index)))
    chosen: list[int] = []
    for rows in order[:-1]:
        if len(chosen) < wanted:
            chosen += rows
    rest = np.setdiff1d(np.arange(len(source.index)), chosen)
    return taken(source, rest), taken(source, _sorted(chosen))


def perceptual_hash(source: Source, i: int) -> int:
    """64 bits: whether brightness rises from each cell of an 8×9 grid to the next; equal for images that look alike."""
    pixels = Image.fromarray(source.read(i).permute(1, 2, 0).numpy())
    small = np.asarray(pixels.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), np.int16)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _sorted(rows: list[int]) -> Ints:
    return np.sort(np.array(rows, np.int64))
