"""Samples → batches: padding, a deterministic order that can start in the middle, and worker processes."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from kdet.data.dataset import DetectionDataset
from kdet.data.index import Ints
from kdet.errors import InputError
from kdet.ops.canvas import padded_hw, teacher_canvas
from kdet.ops.randomness import seed_of
from kdet.types import Batch, Sample

_SALT = 20_211_204
"""Keeps the order of the unlabelled images apart from that of the others."""
Item = tuple[int, int]
"""(epoch, image)."""


def collate(samples: Sequence[Sample], *, teacher_scale: float = 1.0) -> Batch:
    """Lay images at the top left of one zero-padded tensor; values 0…1. `teacher_scale` as of the samples' pipeline."""
    sizes_hw = [(sample.image.shape[-2], sample.image.shape[-1]) for sample in samples]
    needed_hw = [sample.canvas_hw or size_hw for sample, size_hw in zip(samples, sizes_hw, strict=True)]
    canvas_hw = padded_hw((max(h for h, _ in needed_hw), max(w for _, w in needed_hw)))
    images = torch.zeros(len(samples), 3, *canvas_hw)
    corners = [sample.corners for sample in samples if sample.corners is not None]
    larger = [sample.teacher_image.float().div(255) for sample in samples if sample.teacher_image is not None]
    for slot, sample in zip(images, samples, strict=True):
        slot[:, : sample.image.shape[-2], : sample.image.shape[-1]] = sample.image
    return Batch(
        images=images.div_(255),
        sizes_hw=sizes_hw,
        original_sizes_hw=[sample.original_size_hw for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        targets=[sample.target for sample in samples],
        teacher_images=teacher_canvas(larger, sizes_hw, canvas_hw, teacher_scale) if larger else None,
        corners=torch.stack(corners) if len(corners) == len(samples) else None,
    )


class EpochSampler:
    """Batches of a training epoch in an order that follows from (seed, epoch); every rank gets equally many.

    Step t holds the same images however many ranks share it: rank r of w takes its part of `batch_size`·w images.
    What remains at the end is left out, unless it is all there is; those images come up in another epoch.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        unlabelled: int = 0,
        unlabelled_per_batch: int = 0,
    ) -> None:
        """Images that are `unlabelled` stand behind the `length` others; so many of them are added to each batch."""
        if length < world or batch_size < 1:
            raise InputError(f"{length} images cannot be shared by {world} processes in batches of {batch_size}")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world = world
        self.start = start
        self.unlabelled = unlabelled
        self.unlabelled_per_batch = unlabelled_per_batch

    @property
    def steps(self) -> int:
        """Batches of a whole epoch."""
        return max(1, self.length // (self.batch_size * self.world))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many of its batches are behind us."""
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[Item]]:
        order = np.random.default_rng(seed_of(self.seed, self.epoch)).permutation(self.length)
        share = min(self.batch_size, self.length // self.world)
        for step in range(self.start, self.steps):
            first = (step * self.world + self.rank) * share
            added = self._unlabelled(step)
            yield [(self.epoch, int(i)) for i in (*order[first : first + share], *added)]

    def _unlabelled(self, step: int) -> Ints:
        """Positions of the unlabelled images of a step; over the epochs each comes up equally often."""
        count = self.unlabelled_per_batch
        if not self.unlabelled or not count:
            return np.zeros(0, np.int64)
        first = ((self.epoch * self.steps + step) * self.world + self.rank) * count
        places = first + np.arange(count)
        rounds = places // self.unlabelled
        orders = {
            int(n): np.random.default_rng(seed_of(self.seed, _SALT, int(n))).permutation(self.unlabelled)
            for n in set(rounds)
        }
        return np.array(
            [self.length + orders[int(n)][p % self.unlabelled] for n, p in zip(rounds, places, strict=True)]
        )


def evaluation_batches(length: int, *, batch_size: int, rank: int = 0, world: int = 1) -> list[list[Item]]:
    """Return batches with every image exactly once over all ranks; the last may be smaller, a rank may get none."""
    own = range(rank, length, world)
    return [[(0, i) for i in own[first : first + batch_size]] for first in range(0, len(own), batch_size)]


def make_loader(
    dataset: DetectionDataset, batches: Iterable[list[Item]], *, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Make a loader over batches of (epoch, image); with workers=0 everything happens in this process."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=batches,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        collate_fn=partial(collate, teacher_scale=dataset.pipeline.teacher_scale),
        pin_memory=pin_memory,
        worker_init_fn=_one_thread if workers else None,
        persistent_workers=workers > 0,
        # Its own generator: otherwise every epoch would draw a worker seed from the global one, which resume must keep.
        generator=torch.Generator().manual_seed(0),
    )
    return loader


def _one_thread(worker: int) -> None:
    """Workers share the cores; several threads in each would fight for them."""
    torch.set_num_threads(1)
