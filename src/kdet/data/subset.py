"""A part of a data set's images, chosen by their ids: the same part in every run, and a smaller one inside a larger."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kdet.data.index import DetectionIndex, Ints
from kdet.data.source import Source
from kdet.ops.randomness import seed_of

_SALT = 20_221_113
"""Keeps this choice apart from every other use of random numbers."""


@dataclass(frozen=True)
class Subset:
    """Some images of another source."""

    index: DetectionIndex
    pixels: Source
    rows: Ints
    """Position of each image in the other source."""

    def read(self, i: int) -> Tensor:
        """Image i, 3×H×W uint8 RGB."""
        return self.pixels.read(int(self.rows[i]))


def taken(source: Source, rows: Ints) -> Source:
    """Return the images at these positions, in this order."""
    return Subset(source.index.subset(rows), source, rows)


def share_of(source: Source, share: float) -> Source:
    """Return this share of the images, at least one, in their own order; a quarter is part of the half.

    Args:
        source: where they come from.
        share: above 0, at most 1.
    """
    return source if share == 1 else taken(source, np.sort(_order(source)[: _count(source, share)]))


def rest_of(source: Source, share: float) -> Source:
    """Return the images that `share_of` leaves out.

    Args:
        source: where they come from.
        share: above 0, at most 1.
    """
    return taken(source, np.sort(_order(source)[_count(source, share) :]))


def split_off(source: Source, share: float) -> tuple[Source, Source]:
    """Split into the rest and this share of the images, at least one each, for choices that must not see `val`.

    Args:
        source: at least two images.
        share: above 0, below 1.
    """
    order = _order(source)
    count = min(_count(source, share), len(order) - 1)
    return taken(source, np.sort(order[count:])), taken(source, np.sort(order[:count]))


def _order(source: Source) -> Ints:
    """All images in an order that depends on nothing but their ids."""
    keys = [seed_of(_SALT, int(image_id)) for image_id in source.index.image_ids]
    return np.argsort(np.asarray(keys, np.int64), kind="stable")


def _count(source: Source, share: float) -> int:
    return max(1, round(share * len(source.index)))
