"""A source as PyTorch's Dataset: index → augmented Sample."""

import torch
from torch.utils.data import Dataset

from kdet.data.source import Source
from kdet.data.transforms import Pipeline
from kdet.ops.randomness import seeded
from kdet.types import Sample, Target


class DetectionDataset(Dataset[Sample]):
    """What training and evaluation read; augmentation is a function of (seed, epoch, image) and of nothing else."""

    def __init__(self, source: Source, pipeline: Pipeline, *, seed: int = 0, num_labelled: int | None = None) -> None:
        """`num_labelled`: of the source's images so many, the first, are labelled; None = all."""
        self.source = source
        self.num_labelled = len(source.index) if num_labelled is None else num_labelled
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
            viewed = self.pipeline.viewed(image, self.target(i))
        return Sample(
            image=viewed.image,
            target=viewed.target,
            image_id=int(self.source.index.image_ids[i]),
            original_size_hw=original_size_hw,
            labelled=i < self.num_labelled,
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
