"""An adapter shows what the bare model computes, and computes no more than it is asked for."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from fakes import DETECTOR_NAMES, TWO_STAGE, batch_for, images_and_targets, tiny
from kdet.types import Detector, Need, Target

DENSE = ("retinanet", "fcos", "ssdlite", "atss", "gfl")


def call_counts(detector: Detector, *names: str) -> dict[str, int]:
    """How often the named modules ran; counts on while the detector is used."""
    counts = dict.fromkeys(names, 0)
    for name in names:
        module = detector.model.get_submodule(name)
        assert isinstance(module, nn.Module)

        def count(*_: object, name: str = name) -> None:
            counts[name] += 1

        module.register_forward_hook(count)
    return counts


def bare_and_observed(name: str, dtype: torch.dtype) -> tuple[Detector, dict[str, Tensor], dict[str, Tensor]]:
    """Task losses of the bare forward and of `observe`, from the same weights, pixels and random numbers."""
    detector = tiny(name)
    model = detector.model.train().to(dtype)
    images, targets = images_and_targets()
    images = [image.to(dtype) for image in images]
    targets = [Target(boxes=target["boxes"].to(dtype), labels=target["labels"]) for target in targets]
    torch.manual_seed(1)
    expected = model(images, [dict(target) for target in targets])
    torch.manual_seed(1)  # torchvision's resize draws too
    batch = detector.batch(images, targets)
    return detector, expected, dict(detector.observe(batch, frozenset({Need.LOSSES}), batch.targets).losses)


# Two-stage in float64 alone: rounding decides which of two equal proposals its sampling takes.
@pytest.mark.parametrize(
    ("name", "dtype"), [*((n, torch.float64) for n in DETECTOR_NAMES), *((n, torch.float32) for n in DENSE)]
)
def test_task_losses_are_those_of_the_bare_model(name: str, dtype: torch.dtype) -> None:
    _, expected, seen = bare_and_observed(name, dtype)
    assert seen.keys() == expected.keys()
    for key, value in expected.items():
        assert value.detach() > 0
        torch.testing.assert_close(seen[key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_task_losses_give_the_bare_models_gradients(name: str) -> None:
    detector, expected, seen = bare_and_observed(name, torch.float64)
    parameters = [p for p in detector.model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(sum(seen.values()), parameters, allow_unused=True)
    theirs = torch.autograd.grad(sum(expected.values()), parameters, allow_unused=True)
    assert any(g is not None for g in theirs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_the_callers_targets_and_images_stay_as_they_are(name: str) -> None:
    detector = tiny(name)
    batch = batch_for(detector)
    kept = (batch.images.clone(), [target["labels"].clone() for target in batch.targets or []])
    detector.observe(batch, frozenset({Need.LOSSES}), batch.targets)
    assert torch.equal(batch.images, kept[0])
    assert all(torch.equal(t["labels"], k) for t, k in zip(batch.targets or [], kept[1], strict=True))


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_features_alone_run_neither_head_nor_rpn(name: str) -> None:
    detector = tiny(name)
    heads = ("rpn", "rpn.head", "roi_heads") if name in TWO_STAGE else ("head",)
    if name == "faster_rcnn":
        heads = (*heads, "roi_heads.box_head")
    if name == "cascade_rcnn":
        heads = (*heads, "roi_heads.stages.0.box_head")
    counts = call_counts(detector, "backbone", *heads)
    seen = detector.observe(batch_for(detector), frozenset({Need.FEATURES}))
    assert counts == {"backbone": 1, **dict.fromkeys(heads, 0)}
    assert seen.class_logits is None and seen.boxes is None and seen.assignment is None and not seen.losses


@pytest.mark.parametrize("name", DENSE)
def test_one_pass_serves_every_need_at_once(name: str) -> None:
    detector = tiny(name)
    counts = call_counts(detector, "backbone", "head")
    batch = batch_for(detector)
    seen = detector.observe(batch, detector.provides, batch.targets)
    assert counts == {"backbone": 1, "head": 1}
    assert seen.class_logits is not None and seen.boxes is not None and seen.assignment is not None
    n, a, k = seen.class_logits.shape
    assert (n, k) == (3, 4)
    assert seen.boxes.shape == (n, a, 4)
    assert seen.assignment.shape == (n, a)
    assert (seen.quality_logits is not None) == (name in ("fcos", "atss"))
    assert (seen.edge_logits is not None) == (name == "gfl")


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_predictions_are_the_bare_models(name: str) -> None:
    detector = tiny(name)
    model = detector.model.eval()
    images, _ = images_and_targets()
    batch = batch_for(detector)
    with torch.no_grad():
        expected = model(images)
        found = detector.predict(batch)
    assert sum(len(one["boxes"]) for one in expected) > 0
    for ours, theirs, size, original in zip(found, expected, batch.sizes_hw, batch.original_sizes_hw, strict=True):
        scale = torch.tensor([original[1] / size[1], original[0] / size[0]] * 2)
        assert torch.equal(ours.labels, theirs["labels"])
        torch.testing.assert_close(ours.scores, theirs["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.boxes * scale, theirs["boxes"], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
@pytest.mark.parametrize("backbone", ["resnet10", "mobilenet_v2", "mobilenet_v3_small"])
def test_levels_tell_the_true_channels_and_strides(name: str, backbone: str) -> None:
    detector = tiny(name) if name == "ssdlite" else tiny(name, backbone=backbone)
    strides = {**dict.fromkeys(TWO_STAGE, (4, 8, 16, 32, 64)), "ssdlite": (16, 32, 64, 128, 256, 512)}
    assert tuple(level.stride for level in detector.levels) == strides.get(name, (8, 16, 32, 64, 128))
    detector.model.eval()
    seen = detector.observe(detector.batch([torch.rand(3, 96, 96)]), frozenset({Need.FEATURES}))
    assert seen.features is not None
    assert [int(f.shape[1]) for f in seen.features] == [level.channels for level in detector.levels]
    side = seen.input_size_hw[0]
    for feature, level in zip(seen.features, detector.levels, strict=True):
        assert abs(feature.shape[2] - side / level.stride) < 1.01


@pytest.mark.parametrize("name", ["retinanet", "ssdlite"])
def test_assignment_is_that_of_torchvisions_matcher(name: str) -> None:
    detector = tiny(name)
    model = detector.model
    batch = batch_for(detector)
    seen = detector.observe(batch, frozenset({Need.ASSIGNMENT, Need.CLASS_LOGITS}), batch.targets)
    assert seen.assignment is not None and seen.features is not None
    anchors = model.anchor_generator(ImageList(batch.images, batch.sizes_hw), seen.features)
    for target, own, assigned in zip(batch.targets or [], anchors, seen.assignment, strict=True):
        if len(target["boxes"]) == 0:
            assert bool((assigned == -1).all())
            continue
        assert torch.equal(assigned, model.proposal_matcher(box_iou(target["boxes"], own)))
        assert set(range(len(target["boxes"]))) <= set(assigned.tolist())


def test_fcos_assigns_points_that_lie_inside_their_object() -> None:
    detector = tiny("fcos")
    batch = batch_for(detector)
    seen = detector.observe(batch, frozenset({Need.ASSIGNMENT}), batch.targets)
    assert seen.assignment is not None
    centres = [
        torch.stack([xs.flatten(), ys.flatten()], dim=1)
        for (h, w), level in zip(seen.cells_hw, detector.levels, strict=True)
        for ys, xs in [torch.meshgrid(torch.arange(h) * level.stride, torch.arange(w) * level.stride, indexing="ij")]
    ]
    points = torch.cat(centres)
    assert bool((seen.assignment >= 0).any())
    for target, assigned in zip(batch.targets or [], seen.assignment, strict=True):
        inside = points[assigned >= 0]
        boxes = target["boxes"][assigned[assigned >= 0]]
        assert bool(((inside > boxes[:, :2]) & (inside < boxes[:, 2:])).all())


@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", "gfl"])
def test_observing_leaves_the_heads_own_method_in_place(name: str) -> None:
    detector = tiny(name)
    head = detector.model.head
    batch = batch_for(detector)
    detector.observe(batch, detector.provides, batch.targets)
    assert "compute_loss" not in vars(head)
    with pytest.raises(IndexError):  # a label beyond the class layer fails inside the watched method
        bad = [{"boxes": t["boxes"], "labels": t["labels"] + 90} for t in batch.targets or []]
        detector.observe(batch, detector.provides, bad)
    assert "compute_loss" not in vars(head)


def test_boxes_of_faster_rcnns_sampled_regions_match_their_labels() -> None:
    detector = tiny("faster_rcnn")
    detector.model.train()
    batch = batch_for(detector)
    seen = detector.observe(batch, frozenset({Need.PROPOSALS}), batch.targets)
    assert seen.proposals is not None and seen.proposal_labels is not None and seen.proposal_logits is not None
    assert len(seen.proposals) == 3
    assert sum(len(p) for p in seen.proposals) == len(seen.proposal_logits)
    for proposals, labels, target in zip(seen.proposals, seen.proposal_labels, batch.targets or [], strict=True):
        if len(target["boxes"]) == 0:
            assert not labels.any()
            continue
        best, index = box_iou(proposals, target["boxes"]).max(dim=1)
        assert torch.equal(labels, torch.where(best >= 0.5, target["labels"][index], 0))
        assert bool((labels > 0).any())


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_head_from_repeats_the_class_logits_of_the_own_pass(name: str) -> None:
    detector = tiny(name)
    detector.model.train(name in TWO_STAGE)
    batch = batch_for(detector)
    needs = frozenset({Need.PROPOSALS}) if name in TWO_STAGE else frozenset({Need.CLASS_LOGITS})
    seen = detector.observe(batch, needs, batch.targets)
    assert seen.features is not None
    again = detector.head_from(seen.features, seen.proposals)
    expected = seen.proposal_logits if name in TWO_STAGE else seen.class_logits
    torch.testing.assert_close(again, expected)
