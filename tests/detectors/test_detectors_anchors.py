"""What each detector says of its anchors is what it lays."""

import pytest
import torch
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn

from fakes import CLASSES, tiny
from kdet.detectors import wrap
from kdet.types import Batch, Need, Observation
from yolo_fakes import yolo

SIDE = 256
"""A multiple of all strides, so that torchvision's whole pixels from cell to cell are the stride."""


def seen_without_regression(name: str) -> tuple[Observation, list[int]]:
    """Boxes of a head whose last layer is 0: those of deltas are the anchors themselves."""
    detector = tiny(name, image_size=SIDE)
    for module_name, module in detector.model.named_modules():
        if module_name.endswith("bbox_reg"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    image = torch.rand(1, 3, SIDE, SIDE)
    batch = Batch(images=image, sizes_hw=[(SIDE, SIDE)], original_sizes_hw=[(SIDE, SIDE)], image_ids=[0])
    with torch.no_grad():
        seen = detector.observe(batch, frozenset({Need.CLASS_LOGITS, Need.BOXES}))
    return seen, [h * w * a for (h, w), a in zip(seen.cells_hw, seen.anchors_per_cell, strict=True)]


@pytest.mark.parametrize("name", ["retinanet", "atss"])
def test_every_cell_has_the_anchors_of_its_level(name: str) -> None:
    seen, counts = seen_without_regression(name)
    assert seen.boxes is not None
    for level, boxes, (h, w) in zip(seen.levels, seen.boxes[0].split(counts), seen.cells_hw, strict=True):
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        corner = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
        expected = (corner + torch.tensor(level.anchors)) * level.stride
        torch.testing.assert_close(boxes, expected.reshape(-1, 4), rtol=1e-4, atol=1e-3)


def test_torchvisions_own_by_its_documentation() -> None:
    """Sizes 32 to 512 at strides 8 to 128, three a doubling, of ratios 1/2, 1 and 2, around the corners of cells."""
    options = {"weights": None, "weights_backbone": None, "num_classes": 4}
    first, *_, last = wrap(retinanet_resnet50_fpn(**options), CLASSES).levels
    assert len(first.anchors) == len(last.anchors) == 9
    assert first.anchors[3] == last.anchors[3] == (-2.0, -2.0, 2.0, 2.0)
    x1, y1, x2, y2 = first.anchors[0]
    assert (y2 - y1) / (x2 - x1) == pytest.approx(0.5, abs=0.05)
    assert {level.anchors for level in wrap(fcos_resnet50_fpn(**options), CLASSES).levels} == {
        ((-0.5, -0.5, 0.5, 0.5),)
    }


def test_ssdlite_lays_six_around_the_middle_of_each_cell() -> None:
    """Shares of the input: 0.2 of 1024 pixels at stride 16 are 12.8 cells."""
    first, *_ = tiny("ssdlite").levels
    square = first.anchors[0]
    assert len(first.anchors) == 6
    assert [square[2] - square[0], square[3] - square[1]] == pytest.approx([12.8, 12.8], rel=1e-4)
    assert all((x1 + x2, y1 + y2) == pytest.approx((1.0, 1.0), abs=1e-4) for x1, y1, x2, y2 in first.anchors)


def test_a_yolo_scores_the_cells_themselves_and_two_stages_score_none() -> None:
    assert {level.anchors for level in wrap(yolo(), CLASSES).levels} == {((0.5, 0.5, 0.5, 0.5),)}
    assert {level.anchors for level in tiny("faster_rcnn").levels} == {()}
