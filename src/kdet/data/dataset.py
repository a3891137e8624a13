"""A source as PyTorch's Dataset: index → augmented Sample."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from kdet.data.source import Source
from kdet.data.transforms import Pipeline
from kdet.ops.randomness import seed_of, seeded
from kdet.types import Sample, Target

_SALT = 20_210_616
"""Keeps which boxes are drawn apart from the augmentation, which is the same with and without scores."""


class DetectionDataset(Dataset[Sample]):
    """What training and evaluation read; augmentation is a function of (seed, epoch, image) and of nothing else."""

    def __init__(self, source: Source, pipeline: Pipeline, *, seed: int = 0, soft_targets: bool = False) -> None:
        """Read a source through a pipeline.

        Args:
            source: images with their boxes.
            pipeline: what happens to each image.
            seed: of augmentation and draws.
            soft_targets: a box with a score stands on its image in so many of all epochs, drawn anew in each. A loss
                that is linear in the target of a box, as cross-entropy is, is then on average that of a target as
                large as the score, for its class, and weighted by it, for its place; whatever the detector's family.
        """
        self.source = source
        self.soft_targets = soft_targets
        self.pipeline = pipeline
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.source.index)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of plain integer items. Workers that live on do not hear of it: give them (epoch, i)."""
        self.epoch = epoch

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        """Image i, or image i of an epoch; crowd regions are no targets.

        Raises:
            InputError: the image cannot be read.
        """
        epoch, i = (self.epoch, item) if isinstance(item, int) else item
        if not 0 <= i < len(self):
            raise IndexError(i)
        image = self.source.read(i)
        original_size_hw = (image.shape[-2], image.shape[-1])
        with seeded(self.seed, epoch, i):
            viewed = self.pipeline.viewed(image, self._drawn(epoch, i) if self.soft_targets else self.target(i))
        return Sample(
            image=viewed.image,
            target=viewed.target,
            image_id=int(self.source.index.image_ids[i]),
            original_size_hw=original_size_hw,
            teacher_image=viewed.larger,
            corners=viewed.corners,
            canvas_hw=self.pipeline.canvas_hw,
        )

    def target(self, i: int) -> Target:
        """The objects of image i in its own pixels, without crowd regions."""
        own = self.source.index.objects(i)
        single = ~own.crowd
        return Target(
            boxes=torch.from_numpy(own.boxes_xyxy[single]).reshape(-1, 4), labels=torch.from_numpy(own.labels[single])
        )

    def _drawn(self, epoch: int, i: int) -> Target:
        """Those of its objects that stand on image i in this epoch."""
        own = self.source.index.objects(i)
        whole = self.target(i)
        if own.scores is None:
            return whole
        scores = own.scores[~own.crowd]
        drawn: Any = np.random.default_rng(seed_of(self.seed, _SALT, epoch, i)).random(len(scores)) < scores
        return Target(boxes=whole["boxes"][drawn], labels=whole["labels"][drawn])
