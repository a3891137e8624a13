"""Dataset, sampler and loader: the same samples whatever the order, the workers and the number of processes."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdet.data import (
    Augmentation,
    DetectionDataset,
    EpochSampler,
    FileSource,
    IndexedSource,
    Pipeline,
    ShapesSource,
    collate,
    evaluation_batches,
    make_loader,
)
from kdet.data.formats.coco import reader as coco
from kdet.errors import InputError
from kdet.ops.randomness import seed_of, seeded
from kdet.types import Batch, Sample

EVERYTHING = Augmentation(flip=0.5, scale=(0.6, 1.6), crop=0.5, photometric=0.5)


@pytest.fixture
def dataset(shapes: ShapesSource) -> DetectionDataset:
    """Augmented shapes."""
    return DetectionDataset(shapes, Pipeline(48, EVERYTHING), seed=3)


def same(first: Sample, second: Sample) -> bool:
    """Equal pixels and objects."""
    return torch.equal(first.image, second.image) and torch.equal(first.target["boxes"], second.target["boxes"])


def test_augmentation_depends_on_seed_epoch_and_image_alone(dataset: DetectionDataset, shapes: ShapesSource):
    first = [dataset[1, i] for i in range(12)]
    torch.manual_seed(99)
    dataset.set_epoch(1)
    assert all(same(first[i], dataset[i]) for i in reversed(range(12)))
    dataset.set_epoch(2)
    assert not all(same(first[i], dataset[i]) for i in range(12))
    assert all(same(first[i], dataset[1, i]) for i in range(12))
    other = DetectionDataset(shapes, Pipeline(48, EVERYTHING), seed=4)
    assert not all(same(first[i], other[1, i]) for i in range(12))


def test_global_generators_are_left_as_they_were(dataset: DetectionDataset):
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    _ = dataset[0, 0]
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_seeded_restores_after_an_error():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(1, 2):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_differ_by_every_part_of_the_key():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (2**62, 5, 5), (0, 0), (1, 0)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**63 for key in keys)


def test_crowd_is_no_target(coco_file: Callable[..., Path]):
    source = FileSource(coco.read(coco_file()))
    sample = DetectionDataset(source, Pipeline(40))[0]
    assert sample.image_id == 10
    assert sample.original_size_hw == (30, 40)
    assert sample.target["boxes"].tolist() == [[0, 0, 40, 30]]
    assert sample.target["labels"].tolist() == [1]


def test_a_file_of_another_size_is_named(coco_file: Callable[..., Path], save_image: Callable[..., Path]):
    source = FileSource(coco.read(coco_file()))
    save_image(source.index.image(1), 41, 30)
    with pytest.raises(InputError, match=r"b.png: the image is 41×30 px, its annotation says 40×30"):
        source.read(1)


def test_indexed_source_changes_labels_and_not_pixels(shapes: ShapesSource):
    source = IndexedSource(shapes.index.relabelled(["triangle", "square", "circle"]), shapes)
    assert torch.equal(source.read(2), shapes.read(2))
    dataset = DetectionDataset(source, Pipeline(48))
    full = next(i for i in range(12) if len(shapes.index.objects(i).labels))
    assert dataset[full].target["labels"].tolist() == (2 - shapes.index.objects(full).labels).tolist()


def test_items_outside_are_index_errors(dataset: DetectionDataset):
    assert len(dataset) == 12
    for item in (12, -1):
        with pytest.raises(IndexError):
            dataset[item]


def sample_of(height: int, width: int) -> Sample:
    """A white image with one object."""
    return Sample(
        image=torch.full((3, height, width), 255, dtype=torch.uint8),
        target={"boxes": torch.tensor([[0.0, 0.0, 5.0, 5.0]]), "labels": torch.tensor([1])},
        image_id=height,
        original_size_hw=(2 * height, 2 * width),
    )


def test_collate_pads_at_the_right_and_bottom():
    batch = collate([sample_of(20, 70), sample_of(33, 10)])
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.images.dtype == torch.float32
    assert batch.sizes_hw == [(20, 70), (33, 10)]
    assert batch.original_sizes_hw == [(40, 140), (66, 20)]
    assert batch.image_ids == [20, 33]
    assert (batch.images[0, :, :20, :70] == 1).all()
    assert batch.images[0].sum() == 3 * 20 * 70
    assert batch.images[1].sum() == 3 * 33 * 10
    assert batch.targets is not None
    assert batch.targets[1]["labels"].tolist() == [1]


def test_collate_adds_nothing_to_a_multiple_of_32():
    assert collate([sample_of(32, 64)]).images.shape == (1, 3, 32, 64)


def batches_of(dataset: DetectionDataset, workers: int) -> list[Batch]:
    """A whole epoch."""
    sampler = EpochSampler(len(dataset), batch_size=5, seed=1, epoch=4)
    return list(make_loader(dataset, sampler, workers=workers))


def test_workers_change_nothing(dataset: DetectionDataset):
    for first, second in zip(batches_of(dataset, 0), batches_of(dataset, 2), strict=True):
        assert first.image_ids == second.image_ids
        assert torch.equal(first.images, second.images)


def test_workers_hear_of_a_new_epoch(dataset: DetectionDataset):
    sampler = EpochSampler(12, batch_size=6)
    loader = make_loader(dataset, sampler, workers=1)
    first = list(loader)
    sampler.set_epoch(1)
    second = list(loader)
    assert [b.image_ids for b in first] != [b.image_ids for b in second]
    sampler.set_epoch(0)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, loader, strict=True))


def test_loader_draws_nothing_from_the_global_generator(dataset: DetectionDataset):
    state = torch.get_rng_state()
    batches_of(dataset, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_holds_every_image_once():
    sampler = EpochSampler(12, batch_size=4, seed=5)
    images = [i for batch in sampler for _, i in batch]
    assert sorted(images) == list(range(12))
    assert images != sorted(images)
    assert list(sampler) == list(EpochSampler(12, batch_size=4, seed=5))


def test_epochs_and_seeds_have_their_own_order():
    orders = {
        str([i for batch in EpochSampler(50, batch_size=5, seed=seed, epoch=epoch) for _, i in batch])
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize("start", range(5))
def test_resume_in_the_middle(start: int):
    whole = list(EpochSampler(17, batch_size=4, epoch=2))
    rest = EpochSampler(17, batch_size=4, epoch=2, start=start)
    assert list(rest) == whole[start:]
    assert len(rest) == len(whole) - start == 4 - start


@pytest.mark.parametrize("length", [12, 13, 15, 3, 2])
def test_two_processes_share_what_one_would_take(length: int):
    alone = list(EpochSampler(length, batch_size=2, seed=1))
    shared = [list(EpochSampler(length, batch_size=1, seed=1, rank=rank, world=2)) for rank in range(2)]
    assert len(shared[0]) == len(shared[1]) == len(alone)
    for whole, first, second in zip(alone, *shared, strict=True):
        assert whole == first + second


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert [len(batch) for batch in EpochSampler(3, batch_size=16)] == [3]
    ranks = [list(EpochSampler(5, batch_size=16, rank=rank, world=2)) for rank in range(2)]
    assert [len(batch) for rank in ranks for batch in rank] == [2, 2]
    with pytest.raises(InputError, match="cannot be shared"):
        EpochSampler(1, batch_size=1, world=2)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_evaluation_takes_every_image_once(length: int, world: int):
    batches = [evaluation_batches(length, batch_size=3, rank=rank, world=world) for rank in range(world)]
    images = [i for own in batches for batch in own for _, i in batch]
    assert sorted(images) == list(range(length))
    assert all(1 <= len(batch) <= 3 for own in batches for batch in own)
