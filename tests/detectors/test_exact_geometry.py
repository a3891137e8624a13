"""bfloat16 counts pixels beyond 256 in steps of two: under mixed precision no family may place anything in it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import DETECTOR_NAMES, TWO_STAGE, batch_for, tiny
from kdet.types import Detector, Need, Observation, Target
from oracles import CANVAS, ORACLES, ap_of, batch_of
from query_oracles import QUERY_ORACLES

every_precision = pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
every_oracle = pytest.mark.parametrize("name", [*ORACLES, *QUERY_ORACLES])
IN_AUTOCAST = {"features", "head_features"}
"""Fields of an observation that keep the precision in which they were computed."""


@cache
def oracle(name: str) -> tuple[Detector, Target]:
    """Each is built once."""
    return QUERY_ORACLES[name](name) if name in QUERY_ORACLES else ORACLES[name]()


def mixed() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def in_both(look: Callable[[], Any]) -> tuple[Any, Any]:
    """The same look in float32 and under autocast, with the same random numbers."""
    torch.manual_seed(0)
    exact = look()
    torch.manual_seed(0)
    with mixed():
        return exact, look()


def placed(seen: Observation) -> dict[str, Tensor]:
    """All tensors of an observation but features, by name."""
    found: dict[str, Tensor] = {}
    for name, value in vars(seen).items():
        if name in IN_AUTOCAST:
            continue
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, dict | list):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            found |= {f"{name}.{key}": part for key, part in pairs if isinstance(part, Tensor)}
    return found


@every_precision
@every_oracle
def test_an_oracle_finds_everything(name: str, precision: str) -> None:
    assert ap_of(*oracle(name), precision) >= 0.999


@pytest.mark.long
@every_oracle
def test_losses_assignment_and_boxes_are_those_of_float32(name: str) -> None:
    """The head says the same numbers in both precisions, so nothing may differ."""
    detector, target = oracle(name)
    batch = batch_of(target)
    detector.model.train()
    exact, seen = in_both(lambda: placed(detector.observe(batch, detector.provides, batch.targets)))
    assert exact.keys() == seen.keys() and any(key.startswith("losses") for key in seen)
    for key, value in seen.items():
        assert value.dtype in (torch.float32, torch.int64), key
        torch.testing.assert_close(value, exact[key], rtol=1e-5, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", TWO_STAGE)
def test_region_heads_see_the_objects_as_they_are(name: str) -> None:
    """The objects are regions of the sample, too."""
    detector, target = oracle(name)
    detector.model.train()
    stage = getattr(detector.model.roi_heads, "stages", [detector.model.roi_heads])[0]
    sampled: list[Any] = []
    select = stage.select_training_samples
    stage.select_training_samples = lambda *given: sampled.append(select(*given)) or sampled[-1]
    with mixed():
        detector.observe(batch_of(target), frozenset({Need.LOSSES}), [target])
    del stage.select_training_samples
    (regions,), (index,), (labels,), (offsets,) = sampled[0]
    objects = labels > 0
    own = target["boxes"][index[objects]]
    as_they_are = (regions[objects] == own).all(1)
    assert as_they_are.sum() > 10  # a region that is its object needs no offset
    assert offsets[objects][as_they_are].abs().max() < 1e-5
    decoded = stage.box_coder.decode_single(offsets[objects], regions[objects])
    torch.testing.assert_close(decoded, own, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in ORACLES if name not in TWO_STAGE])
def test_candidates_are_those_of_float32(name: str) -> None:
    detector: Any = oracle(name)[0]
    detector.model.eval()
    with torch.no_grad():
        exact, found = in_both(lambda: detector.candidates(torch.zeros(1, 3, *CANVAS)))
    for before, after in zip(exact[:2], found[:2], strict=True):
        assert after.dtype == torch.float32
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_whatever_asks_a_head_is_answered_in_float32_and_features_stay_as_they_were_computed(name: str) -> None:
    detector: Any = tiny(name)
    batch = batch_for(detector)
    needs = frozenset({Need.FEATURES, Need.LOSSES, Need.HEAD_FEATURES} & detector.provides)
    with mixed(), torch.no_grad():
        seen = detector.observe(batch, needs, batch.targets)
        answers = [detector.head_from(seen.features, seen.proposals)]
        if Need.HEAD_FEATURES in detector.provides:
            finished = detector.finish_head(seen.head_features[0], 1, seen)
            answers += [finished.class_logits, finished.boxes]
            assert seen.head_features[0].classes[0].dtype == torch.bfloat16
        detector.model.eval()
        answers += detector.candidates(batch.images)[:2]
    assert all(answer.dtype == torch.float32 for answer in answers)
    assert all(level.dtype == torch.bfloat16 for level in seen.features)


@pytest.mark.parametrize("name", ["faster_rcnn", "rt_detr"])
def test_a_model_is_the_librarys_own_afterwards(name: str) -> None:
    """What is changed for a pass is changed back, after an error too."""
    detector: Any = oracle(name)[0]
    detector.model.train()
    batch = batch_of(Target(boxes=torch.zeros(1, 3), labels=torch.zeros(1, dtype=torch.int64)))
    with mixed(), pytest.raises((AssertionError, IndexError, RuntimeError, ValueError)):
        detector.observe(batch, frozenset({Need.LOSSES}), batch.targets)
    assert not any("forward" in vars(module) for module in detector.model.modules())
