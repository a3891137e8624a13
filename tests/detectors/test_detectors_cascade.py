"""Cascade R-CNN: values by hand, the three stages as loops from the paper, scores, and images without objects."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from fakes import batch_for, images_and_targets, tiny
from kdet.detectors import wrap
from kdet.detectors.plain.cascade import CODER_WEIGHTS, IOUS, LOSS_WEIGHTS, labelled, stage_loss
from kdet.types import Need, Target


def test_stage_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(3)]])
    deltas = torch.tensor([[9.0] * 4, [0.1, 1.0, 0.0, 0.0], [9.0] * 4, [0.0] * 4])
    classifier, box_reg = stage_loss(logits, deltas, torch.tensor([0, 1, 0, 1]), torch.zeros(4, 4))
    assert float(classifier) == pytest.approx((2 * math.log(2) + 2 * math.log(4 / 3)) / 4)
    assert float(box_reg) == pytest.approx((0.5 * 0.1**2 * 9 + (1.0 - 0.5 / 9)) / 4)  # background's boxes do not count


def test_each_stage_asks_for_more_overlap_and_magnifies_the_offsets():
    stages = tiny("cascade_rcnn").model.roi_heads.stages
    truth = Target(boxes=torch.tensor([[0.0, 0, 100, 100]]), labels=torch.tensor([2]))
    regions = [torch.tensor([[0.0, 0, 55, 100], [0, 0, 65, 100], [0, 0, 75, 100], [0, 0, 45, 100]])]  # IoU: width / 100
    expected = ([2, 2, 2, 0], [0, 2, 2, 0], [0, 0, 2, 0])
    for stage, labels, scale in zip(stages, expected, (1, 2, 3), strict=True):
        found, offsets = labelled(stage, regions, [dict(truth)])
        assert found[0].tolist() == labels
        # From a 75 wide region: centre 12.5 to the right, width × 4/3.
        by_hand = [scale * 10 * 12.5 / 75, 0.0, scale * 5 * math.log(4 / 3), 0.0]
        assert offsets[0][2].tolist() == pytest.approx(by_hand, abs=1e-5)


def test_training_pass_is_the_papers_cascade_written_as_loops():
    heads, features, proposals, sizes, targets = parts(tiny("cascade_rcnn"))
    torch.manual_seed(3)
    trained = heads.train_on(features, proposals, sizes, targets)
    torch.manual_seed(3)
    regions, _, _, _ = heads.stages[0].select_training_samples(proposals, targets)
    for index, stage in enumerate(heads.stages):
        pooled = stage.box_roi_pool(features, regions, sizes)
        logits, deltas = stage.box_predictor(stage.box_head(pooled))
        labels, losses_of_boxes = [], []
        for boxes, target, own in zip(regions, targets, deltas.split([len(r) for r in regions]), strict=True):
            for box, delta in zip(boxes, own, strict=True):
                labels.append(answered(box, target, IOUS[index]))
                if labels[-1] > 0:
                    wanted = offsets_of(box, nearest(box, target), CODER_WEIGHTS[index])
                    losses_of_boxes.append(F.smooth_l1_loss(delta, wanted, beta=1 / 9, reduction="sum"))
        classifier = F.cross_entropy(logits, torch.tensor(labels))
        weight = LOSS_WEIGHTS[index]
        torch.testing.assert_close(trained.losses[f"loss_classifier_{index + 1}"], weight * classifier)
        box_reg = torch.stack(losses_of_boxes).sum() / len(labels)
        torch.testing.assert_close(trained.losses[f"loss_box_reg_{index + 1}"], weight * box_reg)
        if index < 2:
            regions = [
                torch.stack([moved(b, d, CODER_WEIGHTS[index], size) for b, d in zip(boxes, own, strict=True)])
                for boxes, own, size in zip(regions, deltas.split([len(r) for r in regions]), sizes, strict=True)
            ]
    torch.testing.assert_close(trained.proposals, [r.detach() for r in regions])
    assert not any(p.requires_grad for p in trained.proposals)


def parts(detector):
    """Box heads in float64 with all that they are given."""
    model = detector.model.double().train()
    images, targets = images_and_targets()
    targets = [Target(boxes=t["boxes"].double(), labels=t["labels"]) for t in targets]
    batch = detector.batch([image.double() for image in images], targets)
    features = dict(model.backbone(batch.images))
    rows = torch.tensor([[2.0, 2, 50, 55], [25, 35, 75, 92], [8, 15, 66, 84], [60, 5, 90, 45], [0, 0, 20, 20]])
    return model.roi_heads, features, [rows.double()] * 3, batch.sizes_hw, [dict(t) for t in batch.targets]


def nearest(box: Tensor, target) -> Tensor:
    return target["boxes"][box_iou(box[None], target["boxes"])[0].argmax()]


def answered(box: Tensor, target, least: float) -> int:
    if len(target["boxes"]) == 0:
        return 0
    overlaps = box_iou(box[None], target["boxes"])[0]
    return int(target["labels"][overlaps.argmax()]) if float(overlaps.max()) >= least else 0


def offsets_of(box: Tensor, truth: Tensor, weights: tuple[float, ...]) -> Tensor:
    (w, h), (tw, th) = box[2:] - box[:2], truth[2:] - truth[:2]
    x, y = (truth[:2] + truth[2:] - box[:2] - box[2:]) / 2
    return torch.stack(
        [weights[0] * x / w, weights[1] * y / h, weights[2] * (tw / w).log(), weights[3] * (th / h).log()]
    )


def moved(box: Tensor, delta: Tensor, weights: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    x, y, w, h = (delta / torch.tensor(weights, dtype=delta.dtype)).detach()
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    centre, sides = centre + torch.stack([x, y]) * sides, sides * torch.stack([w, h]).exp()
    limit = torch.tensor([size[1], size[0]] * 2, dtype=box.dtype)
    return torch.cat([centre - sides / 2, centre + sides / 2]).clamp_min(0).minimum(limit)


def test_scores_are_the_mean_of_the_three_heads_on_the_last_regions():
    model = tiny("cascade_rcnn").model.eval()
    heads = model.roi_heads
    pooled = torch.rand(5, 32, 7, 7)
    each = [stage.box_predictor(stage.box_head(pooled))[0].softmax(1) for stage in heads.stages]
    torch.testing.assert_close(heads.log_scores(pooled).softmax(1), (each[0] + each[1] + each[2]) / 3)
    assert not torch.allclose(each[0], each[2], atol=1e-3)


def test_images_without_objects_train_the_background_alone():
    detector = tiny("cascade_rcnn")
    detector.model.train()
    nothing = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    batch = detector.batch([torch.rand(3, 96, 96)] * 2, [nothing] * 2)
    seen = detector.observe(batch, frozenset({Need.LOSSES, Need.PROPOSALS}), batch.targets)
    assert not torch.cat(seen.proposal_labels or []).any()
    for stage in (1, 2, 3):
        assert float(seen.losses[f"loss_box_reg_{stage}"].detach()) == 0
        assert float(seen.losses[f"loss_classifier_{stage}"].detach()) > 0
    sum(seen.losses.values()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in detector.model.parameters())


def test_the_last_stages_regions_are_shown_with_labels_of_its_own_overlap():
    detector = tiny("cascade_rcnn")
    detector.model.train()
    batch = batch_for(detector)
    seen = detector.observe(batch, frozenset({Need.PROPOSALS}), batch.targets)
    for regions, labels, target in zip(seen.proposals or [], seen.proposal_labels or [], batch.targets, strict=True):
        assert labels.tolist() == [answered(region, target, 0.7) for region in regions]


def test_the_class_layer_is_that_of_all_stages():
    model = tiny("cascade_rcnn").model
    assert wrap(model, ("a", "b", "c")).class_names == ("__background__", "a", "b", "c")
    assert wrap(model, ("a", "b", "c")).family == "cascade_rcnn"


def test_boxes_stay_exact_under_mixed_precision():
    detector = tiny("cascade_rcnn")
    batch = batch_for(detector)
    needs = frozenset({Need.PROPOSALS, Need.LOSSES})
    with torch.autocast("cpu", torch.bfloat16):
        seen = detector.observe(batch, needs, batch.targets)
        detector.model.eval()
        found = detector.predict(batch)
    assert all(torch.isfinite(value) for value in seen.losses.values())
    for boxes in [*(seen.proposals or []), *(one.boxes for one in found)]:
        assert boxes.dtype == torch.float32
        assert len(boxes) == 0 or not torch.equal(boxes, boxes.bfloat16().float())
