"""Candidates and their selection give what each model's own post-processing gives."""

from dataclasses import replace

import pytest
import torch

from detr_fakes import tiny_detr
from fakes import DETECTOR_NAMES, tiny
from kdet.detectors.exportable import Exportable
from kdet.ops.selection import select
from kdet.types import Batch, Detector


def _pixels(count: int = 2) -> Batch:
    """Images that fill their canvas."""
    images = torch.rand(count, 3, 96, 128, generator=torch.Generator().manual_seed(3))
    sizes = [(96, 128)] * count
    return Batch(images=images, sizes_hw=sizes, original_sizes_hw=sizes, image_ids=list(range(count)))


def _check(detector: Detector) -> None:
    detector.model.eval()
    batch = _pixels()
    assert isinstance(detector, Exportable)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in detector.pixels)
    with torch.no_grad():
        expected = detector.predict(batch)
        found = select(detector.candidates((batch.images - mean) / std), detector.selection, (96, 128))
    for row, own in enumerate(expected):
        assert len(own.scores) > 5, "the test needs detections"
        count = int((found.labels[row] >= 0).sum())
        assert count == len(own.scores)
        assert torch.allclose(found.scores[row, :count], own.scores, atol=1e-5)
        clear = own.scores > own.scores[-1] + 1e-5  # of equal scores at the very end either may have been left out
        apart = torch.cdist(own.boxes[clear], found.boxes[row, :count], p=torch.inf)
        other = (own.labels[clear, None] != found.labels[row, :count]) | (
            (own.scores[clear, None] - found.scores[row, :count]).abs() > 1e-5
        )
        assert (apart + 1e3 * other).min(dim=1).values.max() < 1e-3
        assert not found.scores[row, count:].any()
        assert not found.boxes[row, count:].any()


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_a_graph_of_fixed_shapes_finds_what_the_model_finds(name):
    _check(tiny(name))


@pytest.mark.parametrize("kind", ["detr", "rt_detr"])
def test_so_do_the_queries_of_set_detectors(kind):
    _check(tiny_detr(kind))


def test_fewer_places_than_detections_are_filled_from_the_best():
    detector = tiny("retinanet")
    detector.model.eval()
    with torch.no_grad():
        candidates = detector.candidates(_pixels(1).images)
        found = select(candidates, replace(detector.selection, detections=5), (96, 128))
        many = select(candidates, detector.selection, (96, 128))
    assert found.scores.shape == (1, 5)
    assert torch.equal(found.boxes, many.boxes[:, :5])
