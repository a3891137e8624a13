"""What ATSS and GFL have in common: alone they work as torchvision's detectors do, whatever the batch holds."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from fakes import batch_for, images_and_targets, state_of, tiny
from kdet.detectors import build
from kdet.detectors.plain import ATSS
from kdet.detectors.plain.one_stage import ExactAnchors, Limits, best_detections
from kdet.types import Need

OWN = ("atss", "gfl")


def empty() -> list[dict[str, Tensor]]:
    return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 3


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("objects", [True, False])
def test_every_parameter_gets_a_finite_gradient_with_and_without_objects(name: str, objects: bool) -> None:
    model = tiny(name).model.train()
    images, targets = images_and_targets()
    losses = model(images, [dict(t) for t in targets] if objects else empty())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    scales = [p.grad for key, p in model.named_parameters() if key.endswith("factor")]
    assert len(scales) == 5 and any(bool(grad) for grad in scales) == objects
    assert all((float(loss.detach()) > 0) == (objects or key == "classification") for key, loss in losses.items())


@pytest.mark.parametrize("name", OWN)
def test_an_image_without_objects_is_background_alone_and_changes_no_other(name: str) -> None:
    detector = tiny(name)
    batch = batch_for(detector)
    assert batch.targets is not None
    needs = frozenset({Need.ASSIGNMENT})
    seen = detector.observe(batch, needs, batch.targets).assignment
    assert seen is not None and seen[1].unique().tolist() == [-1]
    assert seen.max() == 2 and seen.min() == -1 and (seen[0] >= 0).any()
    filled = detector.observe(batch, needs, [batch.targets[0]] * 3).assignment
    assert filled is not None and torch.equal(filled[0], seen[0]) and torch.equal(filled[1], seen[0])


@pytest.mark.parametrize("name", OWN)
def test_positives_lie_inside_their_objects(name: str) -> None:
    detector = tiny(name)
    batch = batch_for(detector)
    seen = detector.observe(batch, frozenset({Need.ASSIGNMENT}), batch.targets)
    assert seen.assignment is not None and seen.features is not None
    anchors = detector.model.anchor_generator(ImageList(batch.images, batch.sizes_hw), seen.features)
    for target, own, assigned in zip(batch.targets or [], anchors, seen.assignment, strict=True):
        centres, boxes = ((own[:, :2] + own[:, 2:]) / 2)[assigned >= 0], target["boxes"][assigned[assigned >= 0]]
        assert bool(((centres > boxes[:, :2]) & (centres < boxes[:, 2:])).all())


@pytest.mark.parametrize("name", OWN)
def test_training_is_refused_without_targets_and_on_flat_boxes(name: str) -> None:
    model = tiny(name).model.train()
    images, _ = images_and_targets()
    with pytest.raises(ValueError, match="expected targets"):
        model(images)
    flat = {"boxes": torch.tensor([[5.0, 5, 5, 9]]), "labels": torch.ones(1, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"positive width and height, got \[5.0, 5.0, 5.0, 9.0\] for image 1"):
        model(images, [empty()[0], flat, empty()[0]])


@pytest.mark.parametrize("name", OWN)
def test_targets_and_weights_stay_as_they_are(name: str) -> None:
    model = tiny(name).model.eval()
    images, targets = images_and_targets()
    before, kept = state_of(model), [t["boxes"].clone() for t in targets]
    with torch.no_grad():
        model(images)
        model.train()(images, targets)
    assert all(torch.equal(t["boxes"], k) for t, k in zip(targets, kept, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items() if k.startswith("head"))


def test_mixed_precision_keeps_anchors_exact() -> None:
    generator = AnchorGenerator(((64,),), ((1.0,),))
    images = ImageList(torch.zeros(1, 3, 8, 1032), [(8, 1032)])
    maps = [torch.zeros(1, 4, 1, 129, dtype=torch.bfloat16)]
    last = ExactAnchors(generator)(images, maps)[0][-1]
    assert last.tolist() == [1024 - 32, -32, 1024 + 32, 32] and last.dtype == torch.float32


@pytest.mark.parametrize("name", OWN)
def test_mixed_precision_gives_losses_near_those_of_float32(name: str) -> None:
    detector = tiny(name)
    batch = batch_for(detector)
    exact = detector.observe(batch, frozenset({Need.LOSSES}), batch.targets).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = detector.observe(batch, frozenset({Need.LOSSES}), batch.targets).losses
    for key, value in exact.items():
        assert mixed[key].dtype == torch.float32
        torch.testing.assert_close(mixed[key], value, rtol=0.1, atol=0.02)


def test_detections_are_thresholded_cut_by_level_and_thinned_by_class() -> None:
    limits = Limits(score=0.3, candidates=2, nms_iou=0.5, detections=3)
    here, there, elsewhere = [0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 40]
    fine = torch.tensor([[[0.0, 0.9], [0.0, 0.8], [0.4, 0.2]]])  # the best two of this level: 0.9, and 0.8 on top of it
    coarse = torch.tensor([[[0.5, 0.35]]])
    boxes = [[torch.tensor([here, there, elsewhere]), torch.tensor([elsewhere])]]
    (found,) = best_detections([fine, coarse], boxes, [(30, 30)], limits)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.5, 0.35])
    assert found["labels"].tolist() == [1, 0, 1]
    assert found["boxes"][1].tolist() == [20, 20, 30, 30]  # clipped


def test_atss_scores_are_the_root_of_class_score_times_centreness() -> None:
    detector = tiny("atss")
    model = detector.model
    assert isinstance(model, ATSS)
    outputs = {
        "cls_logits": [torch.tensor([[[-20.0, 0.8]]]).logit(eps=1e-6)],
        "bbox_regression": [torch.zeros(1, 1, 4)],
        "bbox_ctrness": [torch.tensor([[[0.45]]]).logit()],
    }
    (found,) = model.postprocess_detections(outputs, [[torch.tensor([[0.0, 0, 8, 8]])]], [(96, 96)])
    assert found["scores"].tolist() == pytest.approx([0.6])
    assert found["boxes"].tolist() == [[0, 0, 8, 8]]


@pytest.mark.parametrize("name", OWN)
def test_a_narrow_head_is_normalised_in_groups_of_four_and_speaks_the_prior_at_first(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, classes=["a"], backbone="resnet10", width=0.25, fpn_channels=32, image_size=64).model.eval()
    norms = [m for m in model.head.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert len(norms) == 8 and {norm.num_groups for norm in norms} == {8}
    with torch.no_grad():
        logits = model.head([torch.randn(1, 32, 4, 4)] * 5)["cls_logits"]
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)
