"""The teacher cannot learn, wake up or leak."""

import copy

import pytest
import torch
from distill_cases import batch, distiller, every_term, student, teacher

from fakes import DETECTOR_NAMES, TWO_STAGE, images_and_targets, same_state, state_of
from kdet.distill import METHODS, Distiller, FrozenTeacher
from kdet.distill.methods import soft_labels
from kdet.types import Need
from suites import quick


def all_terms(name: str) -> list:
    """Every method that the family takes part in."""
    return every_term(name) + (soft_labels(on="regions") if name in TWO_STAGE else [])


@pytest.mark.parametrize("name", quick(DETECTOR_NAMES, lambda name: name in ("retinanet", "faster_rcnn")))
def test_no_training_step_changes_a_byte_of_the_teacher(name: str) -> None:
    detector = teacher(name)
    pair = Distiller(student(name), detector, all_terms(name))
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.01, weight_decay=0.1)
    before = state_of(detector.model)
    for _ in range(2):
        pair.train()
        pair(batch(name)).total.backward()
        optimizer.step()
    assert same_state(before, state_of(detector.model))
    assert all(p.grad is None for p in detector.model.parameters())


def test_the_student_does_change_in_the_same_steps() -> None:
    pair = distiller(all_terms("retinanet"))
    before = state_of(pair.model)
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.01)
    pair(batch()).total.backward()
    optimizer.step()
    assert not same_state(before, state_of(pair.model))


def test_train_does_nothing_to_a_teacher_or_any_part_of_it() -> None:
    frozen = FrozenTeacher(teacher())
    assert frozen.model.train() is frozen.model
    frozen.model.backbone.train(True)
    for module in frozen.model.modules():
        module.train()
    assert not any(module.training for module in frozen.model.modules())
    assert not any(p.requires_grad for p in frozen.model.parameters())


def test_training_the_distiller_wakes_the_student_alone() -> None:
    pair = distiller(METHODS["structural"].terms())
    assert pair.teacher is not None
    assert pair.model.training and not any(module.training for module in pair.teacher.model.modules())


def test_the_teacher_is_in_nobodys_state() -> None:
    pair = distiller(all_terms("retinanet"))
    assert pair.teacher is not None
    theirs = {id(p) for p in [*pair.teacher.model.parameters(), *pair.teacher.model.buffers()]}
    assert not theirs & {id(p) for p in [*pair.parameters(), *pair.buffers()]}
    assert not {id(m) for m in pair.teacher.model.modules()} & {id(m) for m in pair.modules()}
    prefixes = {name.split(".")[0] for name in pair.state_dict()}
    assert prefixes == {"model", "criterion"}
    beside = ("criterion.adapters.", "criterion.learned_losses.", "criterion.balance.")
    assert all(name.startswith(beside) for name in pair.state_dict() if not name.startswith("model."))
    assert set(copy.deepcopy(pair).state_dict()) == set(pair.state_dict())


def test_the_teacher_runs_without_a_graph() -> None:
    frozen = FrozenTeacher(teacher())
    seen = frozen.observe(batch(), frozenset({Need.FEATURES, Need.CLASS_LOGITS}))
    assert seen.features is not None and seen.class_logits is not None
    assert not any(t.requires_grad for t in [*seen.features, seen.class_logits])


@pytest.mark.parametrize("method", ["structural", "lp", "l2"])
def test_under_feature_losses_the_teacher_stops_after_its_neck(method: str) -> None:
    detector = teacher()
    pair = Distiller(student(), detector, METHODS[method].terms())
    ran: list[str] = []
    detector.model.backbone.register_forward_hook(lambda *_: ran.append("backbone"))
    detector.model.head.register_forward_hook(lambda *_: ran.append("head"))
    pair(batch())
    assert ran == ["backbone"]


def test_moving_and_casting_the_distiller_takes_the_teacher_along() -> None:
    pair = distiller(METHODS["structural"].terms())
    assert pair.teacher is not None
    pair.double()
    assert {p.dtype for p in pair.teacher.model.parameters()} == {torch.float64}
    images, targets = images_and_targets()
    assert pair([image.double() for image in images], targets).total.dtype == torch.float64
    pair.half()
    assert {p.dtype for p in [*pair.teacher.model.parameters(), *pair.parameters()]} == {torch.float16}
    pair.to("meta")
    assert {p.device.type for p in pair.teacher.model.parameters()} == {"meta"}


def test_the_same_module_on_both_sides_is_refused() -> None:
    detector = student()
    with pytest.raises(ValueError, match="same module"):
        Distiller(detector, detector, METHODS["structural"].terms())
