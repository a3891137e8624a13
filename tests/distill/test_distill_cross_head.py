"""CrossKD's path: the student's hidden features of the head through the frozen rest of the teacher's."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from distill_cases import batch, permuted, student, teacher
from torch import Tensor

from fakes import CLASSES, same_state, state_of
from kdet.distill import Distiller, Term
from kdet.distill.methods import crosskd
from kdet.distill.views.cross_head import CrossHead, _aligned
from kdet.errors import InputError
from kdet.losses import crosskd_loss
from kdet.types import Detector, LossReport

WIDE: dict[str, Any] = {"fpn_channels": 64}
"""The teacher's channels: its head can finish only maps of as many."""


def pair(ours: Detector, theirs: Detector, **options: Any) -> Distiller:
    term = Term(name="crosskd", loss=crosskd_loss, view=CrossHead(**options), weight=1.0)
    distiller = Distiller(ours, theirs, [term])
    distiller.train()
    return distiller


def seen(distiller: Distiller, name: str = "retinanet") -> dict[str, Tensor]:
    """What the view gives the loss."""
    assert distiller.criterion is not None
    given = batch(name)
    context = distiller.observe_pair(given)[1][0]
    return distiller.criterion.terms[0].view(context, lambda maps: maps)


def crossed(distiller: Distiller, name: str = "retinanet") -> LossReport:
    return distiller(batch(name))


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
@pytest.mark.parametrize("align", [True, False])
def test_the_term_reaches_the_students_head_before_the_cut_and_its_backbone_and_nothing_behind(
    name: str, align: bool
) -> None:
    distiller = pair(student(name, **WIDE), teacher(name), after=3, align=align)
    value = crossed(distiller, name).parts["crosskd"]
    assert torch.isfinite(value) and value.detach() > 0
    value.backward()
    moved = {key for key, p in distiller.model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    for branch in ("classification_head", "regression_head"):
        step = 1 if name == "retinanet" else 3
        kernel = "0.weight" if name == "retinanet" else "weight"
        kernels = [f"head.{branch}.conv.{layer * step}.{kernel}" for layer in range(4)]
        assert [key in moved for key in kernels] == [True, True, True, False]
    assert not any(part in key for key in moved for part in ("cls_logits", "bbox_reg", "bbox_ctrness"))
    assert any(key.startswith("backbone.body") for key in moved)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_teacher_stays_byte_for_byte_and_keeps_no_gradient(name: str) -> None:
    theirs = teacher(name)
    distiller = pair(student(name, **WIDE), theirs)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)
    before, ours = state_of(theirs.model), state_of(distiller.model)
    for _ in range(2):
        crossed(distiller, name).total.backward()
        optimizer.step()
    assert same_state(before, state_of(theirs.model))
    assert all(p.grad is None for p in theirs.model.parameters())
    assert not any(module.training for module in theirs.model.modules())
    assert not same_state(ours, state_of(distiller.model))


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
@pytest.mark.parametrize("options", [{"after": 1}, {"after": 3}, {"after": 4}, {"align": False}], ids=str)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(name: str, options: dict[str, Any]) -> None:
    ours, theirs = teacher(name), teacher(name)
    distiller = pair(ours, theirs, **options).eval()  # batch statistics as the teacher's
    value = crossed(distiller, name).parts["crosskd"]
    assert value.item() == pytest.approx(0, abs=1e-3)
    assert crossed(pair(student(name, **WIDE), theirs, **options), name).parts["crosskd"] > 0.1


def test_the_view_gives_every_anchor_of_the_teacher_and_the_count_of_positives() -> None:
    distiller = pair(student(**WIDE), teacher())
    given = seen(distiller)
    own = distiller.student.observe(batch(), distiller.student.provides, batch().targets)
    assert own.class_logits is not None and own.assignment is not None
    candidates = own.class_logits.shape[0] * own.class_logits.shape[1]
    shapes = {key: tuple(value.shape) for key, value in given.items()}
    assert shapes == {
        "student_logits": (candidates, len(CLASSES)),
        "teacher_logits": (candidates, len(CLASSES)),
        "student_boxes": (candidates, 4),
        "teacher_boxes": (candidates, 4),
        "normaliser": (),
    }
    assert given["normaliser"] == (own.assignment >= 0).sum()
    assert given["student_logits"].requires_grad and not given["teacher_logits"].requires_grad


def test_the_order_of_the_teachers_classes_makes_no_difference() -> None:
    theirs = teacher()
    straight = crossed(pair(student(**WIDE), theirs)).parts["crosskd"]
    turned = crossed(pair(student(**WIDE), permuted(theirs, (2, 0, 1)))).parts["crosskd"]
    torch.testing.assert_close(turned, straight)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("fcos", "retinanet"), ("retinanet", "fcos"), ("retinanet", "gfl"), ("gfl", "atss")]
)
def test_heads_of_two_families_can_be_crossed(ours: str, theirs: str) -> None:
    """The anchors are the teacher's on both sides, so that the student's own need not agree."""
    distiller = pair(student(ours, **WIDE), teacher(theirs))
    report = crossed(distiller, ours)
    report.parts["crosskd"].backward()
    assert report.parts["crosskd"].detach() > 0
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in distiller.model.backbone.body.parameters())


def test_the_whole_step_runs_in_half_precision() -> None:
    distiller = pair(student(**WIDE), teacher())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = crossed(distiller).parts["crosskd"]
    assert value.dtype == torch.float32 and torch.isfinite(value)


def test_alignment_gives_each_channel_the_teachers_mean_and_spread() -> None:
    ours, theirs = 5 * torch.randn(3, 4, 6, 7) - 2, torch.randn(3, 4, 6, 7) * torch.rand(1, 4, 1, 1) + 3
    aligned = _aligned(ours, theirs)
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(aligned, dim=(0, 2, 3)), statistic(theirs, dim=(0, 2, 3)))
    # The shape of the student's map stays: only a scale and a shift per channel.
    torch.testing.assert_close(_aligned(7 * ours + 1, theirs), aligned)
    torch.testing.assert_close(_aligned(theirs, theirs), theirs)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 4, 5, 5)])
def test_alignment_of_a_constant_map_has_a_finite_gradient(shape: tuple[int, ...]) -> None:
    ours = torch.ones(shape, requires_grad=True)
    theirs = torch.randn(shape)
    aligned = _aligned(ours, theirs)
    aligned.square().sum().backward()
    torch.testing.assert_close(aligned, theirs.mean((0, 2, 3), keepdim=True).expand(shape))
    assert ours.grad is not None and ours.grad.isfinite().all()


def test_one_nearly_constant_channel_gets_no_outsized_gradient() -> None:
    ours = torch.randn(2, 8, 6, 6)
    ours[:, 0] *= 1e-7
    ours.requires_grad_()
    (_aligned(ours, torch.randn(2, 8, 6, 6)) * torch.randn(2, 8, 6, 6)).sum().backward()
    assert ours.grad is not None
    sizes = ours.grad.square().sum((0, 2, 3)).sqrt()
    assert sizes[0] < 200 * sizes[1:].median()


def test_each_branch_has_its_own_adapter_where_the_channels_differ() -> None:
    distiller = Distiller(student(), teacher(), crosskd())
    distiller.train()
    crossed(distiller).parts["crosskd"].backward()
    adapters = [p for key, p in distiller.named_parameters() if key.startswith("criterion.adapters.crosskd.")]
    assert len(adapters) == 2 * 2 * 5  # branches × (weight, bias) × levels
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in adapters if p.ndim == 4)


def test_other_channels_without_an_adapter_are_refused_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"32 student channels against 64 teacher channels need an adapter"):
        pair(student(), teacher())


@pytest.mark.parametrize("after", [0, 5])
def test_a_cut_outside_the_head_is_refused(after: int) -> None:
    distiller = pair(student(**WIDE), teacher(), after=after)
    with pytest.raises(InputError, match=rf"head has 4 hidden layers: expected after 1…4, got {after}"):
        crossed(distiller)


def test_other_grids_are_refused() -> None:
    distiller = pair(student(**WIDE), teacher())
    assert distiller.criterion is not None and distiller.teacher is not None
    own, _ = distiller.observe_pair(batch())
    other = distiller.student.batch([torch.rand(3, 96, 64)])
    _, (context,) = distiller.observe_pair(other, only=distiller.criterion.teacher_needs[0])
    with pytest.raises(InputError, match=r"only on its own grids .*; use feature terms"):
        distiller.criterion.raw([replace(context, student=own)])


@pytest.mark.parametrize("name", ["ssdlite", "faster_rcnn"])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_detectors_whose_head_has_no_such_layers_are_refused(name: str, side: str) -> None:
    other = {"student": student, "teacher": teacher}[side](name)
    models = (other, teacher()) if side == "student" else (student(**WIDE), other)
    with pytest.raises(InputError, match=rf"crosskd reads .*head features.*, which the {side} \({name}\)"):
        pair(*models)
