"""NMS of all images and groups at once, in a graph as outside one; the families' own post-processing is the oracle of
the whole in tests/detectors/test_candidates.py."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from kdet.ops.selection import clipped, without_overlaps


class _Overlaps(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        return without_overlaps(boxes, scores, groups, 0.5)


def _inputs(images: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(images, 40, 2, generator=generator) * 60 - 10
    boxes = torch.cat([corners, corners + 20 + 20 * torch.rand(images, 40, 2, generator=generator)], 2)
    return boxes, torch.rand(images, 40, generator=generator), torch.randint(0, 4, (images, 40), generator=generator)


@pytest.fixture(scope="module")
def graph() -> nn.Module:
    """For any number of images."""
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings(action="ignore"):  # between torch and torchvision
        program = torch.export.export(_Overlaps(), _inputs(), dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    return program.module()


def test_each_image_and_group_has_its_own_nms(graph):
    boxes, scores, groups = _inputs()
    found = without_overlaps(boxes, scores, groups, 0.5)
    assert torch.equal(graph(boxes, scores, groups), found)
    for i in range(len(boxes)):
        kept = batched_nms(boxes[i], scores[i], groups[i], 0.5)
        assert 0 < len(kept) < 40
        assert torch.equal(found[i].nonzero().squeeze(1), kept.sort().values)
        assert torch.equal(found[i][kept], scores[i][kept])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_images_with_few_detections_or_none_are_no_exception(graph, count):
    boxes, _, groups = _inputs(1)
    scores = torch.zeros(1, 40)
    scores[0, :count] = 0.5
    groups[0, :2] = torch.tensor([0, 1])
    assert torch.equal(graph(boxes, scores, groups), scores)
    assert torch.equal(without_overlaps(boxes, scores, groups, 0.5), scores)


def test_boxes_are_cut_at_the_border_of_a_size_given_as_height_and_width():
    boxes = torch.tensor([[-5.0, -6.0, 30.0, 20.0], [1.0, 2.0, 3.0, 4.0]])
    assert clipped(boxes, (10, 25)).tolist() == [[0.0, 0.0, 25.0, 10.0], [1.0, 2.0, 3.0, 4.0]]
