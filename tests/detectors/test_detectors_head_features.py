"""What stands inside a dense head, and the rest of a head on maps that are given to it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fakes import batch_for, same_state, state_of, tiny
from kdet.types import Detector, DividedHead, HeadFeatures, Need, Observation

DIVIDED = ("retinanet", "fcos", "atss", "gfl")
NEEDS = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.BOXES, Need.HEAD_FEATURES})
DEPTH = 4


def seen_by(detector: Detector) -> Observation:
    return detector.observe(batch_for(detector), NEEDS)


def finished(detector: Detector, hidden: HeadFeatures, after: int, own: Observation) -> Observation:
    assert isinstance(detector, DividedHead)
    return detector.finish_head(hidden, after, own)


def by_hand(branch: nn.Module, features: Sequence[Tensor], after: int) -> list[Tensor]:
    """The convolutions (and norms) of torchvision's branch, one by one, with a ReLU of our own between."""
    layers = [m for m in branch.modules() if isinstance(m, (nn.Conv2d, nn.GroupNorm, nn.BatchNorm2d))]
    per_hidden = len(layers) // DEPTH
    maps = list(features)
    for index, layer in enumerate(layers[: after * per_hidden]):
        if index and index % per_hidden == 0:
            maps = [m.relu() for m in maps]
        maps = [layer(m) for m in maps]
    return maps


def hooks_of(detector: Detector) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in detector.model.modules())


@pytest.mark.parametrize("name", DIVIDED)
def test_each_hidden_layer_is_revealed_before_its_activation(name: str) -> None:
    detector = tiny(name)
    detector.model.eval()
    seen = seen_by(detector)
    assert len(seen.head_features) == DEPTH and seen.features is not None
    head = detector.model.head
    for after, hidden in enumerate(seen.head_features, start=1):
        for maps, branch in ((hidden.classes, head.classification_head), (hidden.boxes, head.regression_head)):
            torch.testing.assert_close(maps, by_hand(branch.conv, seen.features, after))
            assert any(bool((m < 0).any()) for m in maps)


@pytest.mark.parametrize("name", DIVIDED)
def test_revealing_them_changes_nothing_else_and_runs_the_head_once(name: str) -> None:
    detector = tiny(name)
    detector.model.eval()
    plain = detector.observe(batch_for(detector), NEEDS - {Need.HEAD_FEATURES})
    runs: list[nn.Module] = []
    convolutions = [m for m in detector.model.head.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions:
        convolution.register_forward_hook(lambda module, *_: runs.append(module))
    seen = seen_by(detector)
    assert plain.head_features == ()
    assert plain.class_logits is not None and seen.class_logits is not None
    assert torch.equal(seen.class_logits, plain.class_logits)
    assert plain.boxes is not None and seen.boxes is not None and torch.equal(seen.boxes, plain.boxes)
    assert len(runs) == len(convolutions) * len(detector.levels)


@pytest.mark.parametrize("name", DIVIDED)
def test_no_hook_stays_behind_even_where_the_head_fails(name: str) -> None:
    detector = tiny(name)
    seen_by(detector)
    assert hooks_of(detector) == 0
    detector.model.head.regression_head.bbox_reg = nn.Conv2d(1, 1, 1)
    with pytest.raises(RuntimeError):
        seen_by(detector)
    assert hooks_of(detector) == 0


@pytest.mark.parametrize("name", DIVIDED)
@pytest.mark.parametrize("after", range(1, DEPTH + 1))
def test_the_rest_of_the_head_repeats_its_own_predictions(name: str, after: int) -> None:
    detector = tiny(name)
    detector.model.eval()
    own = seen_by(detector)
    blank = replace(own, class_logits=None, quality_logits=None, boxes=None, edge_logits=None)
    again = finished(detector, own.head_features[after - 1], after, blank)
    torch.testing.assert_close(again.class_logits, own.class_logits)
    torch.testing.assert_close(again.boxes, own.boxes)
    assert (again.quality_logits is None) == (name in ("retinanet", "gfl"))
    torch.testing.assert_close(again.quality_logits, own.quality_logits)
    torch.testing.assert_close(again.edge_logits, own.edge_logits)
    assert (again.cells_hw, again.anchors_per_cell, again.levels) == (own.cells_hw, own.anchors_per_cell, own.levels)


@pytest.mark.parametrize("name", DIVIDED)
def test_finishing_changes_neither_the_given_maps_nor_the_model(name: str) -> None:
    detector = tiny(name)
    detector.model.eval()
    own, before = seen_by(detector), state_of(detector.model)
    hidden = own.head_features[1]
    kept = [m.clone() for m in [*hidden.classes, *hidden.boxes]]
    finished(detector, hidden, 2, own)
    assert all(torch.equal(m, k) for m, k in zip([*hidden.classes, *hidden.boxes], kept, strict=True))
    assert same_state(before, state_of(detector.model))


@pytest.mark.parametrize("name", DIVIDED)
def test_gradients_reach_the_layers_before_the_cut(name: str) -> None:
    detector = tiny(name)
    seen = detector.observe(batch_for(detector), NEEDS)
    sum(m.square().sum() for m in [*seen.head_features[1].classes, *seen.head_features[1].boxes]).backward()
    for branch in (detector.model.head.classification_head, detector.model.head.regression_head):
        moved = [m.weight.grad is not None for m in branch.modules() if isinstance(m, nn.Conv2d)]
        assert moved == [True] * 2 + [False] * (len(moved) - 2)


@pytest.mark.parametrize("name", ["ssdlite", "faster_rcnn"])
def test_detectors_without_hidden_layers_of_two_branches_do_not_offer_them(name: str) -> None:
    detector = tiny(name)
    assert Need.HEAD_FEATURES not in detector.provides
    assert not isinstance(detector, DividedHead)


@pytest.mark.parametrize("name", DIVIDED)
def test_those_that_offer_them_can_finish_them(name: str) -> None:
    detector = tiny(name)
    assert Need.HEAD_FEATURES in detector.provides
    assert isinstance(detector, DividedHead)
