"""BCKD under real heads: what it reads of every anchor, what it pulls at, whom it refuses; and cells by anchors."""

import pytest
import torch
from distill_cases import batch, student, teacher

from kdet.distill import Distiller
from kdet.distill.methods import bckd, hint
from kdet.distill.views.base import StepContext
from kdet.errors import InputError
from kdet.losses import bckd_loss


def context_of(pair: Distiller, name: str) -> StepContext:
    given = batch(name)
    assert pair.criterion is not None
    return pair.observe_pair(given)[1][0]


def moved(pair: Distiller) -> set[str]:
    return {key for key, p in pair.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", "gfl"])
def test_it_reads_every_anchor_that_is_not_ignored(name: str) -> None:
    pair = Distiller(student(name), teacher(name), bckd()).train()
    context = context_of(pair, name)
    seen, theirs = context.student, context.teacher
    assert seen.assignment is not None and seen.class_logits is not None and theirs.class_logits is not None
    assert seen.boxes is not None and theirs.boxes is not None
    chosen = seen.assignment > -2
    expected = bckd_loss(
        seen.class_logits[..., 1:][chosen],
        theirs.class_logits[..., 1:][chosen],
        seen.boxes[chosen],
        theirs.boxes[chosen],
        normaliser=float((seen.assignment >= 0).sum()),
    )
    assert pair.criterion is not None and expected.detach() > 0
    torch.testing.assert_close(pair.criterion.raw([context])["bckd"].sum(), expected)


def test_anchors_between_object_and_background_are_left_out() -> None:
    pair = Distiller(student(), teacher(), bckd()).train()
    context = context_of(pair, "retinanet")
    assert context.student.assignment is not None
    ignored = int((context.student.assignment == -2).sum())
    assert pair.criterion is not None and ignored > 0
    read = pair.criterion.terms[0].view(context, lambda maps: maps)
    assert len(read["student_logits"]) == context.student.assignment.numel() - ignored


def test_a_softmax_head_is_one_question_per_class() -> None:
    pair = Distiller(student("ssdlite"), teacher("ssdlite"), bckd()).train()
    context = context_of(pair, "ssdlite")
    assert pair.criterion is not None and context.student.class_logits is not None
    read = pair.criterion.terms[0].view(context, lambda maps: maps)
    assert context.student.assignment is not None
    probabilities = context.student.class_logits.softmax(-1)[..., 1:][context.student.assignment > -2]
    torch.testing.assert_close(read["student_logits"].sigmoid(), probabilities, rtol=1e-4, atol=1e-5)


def test_it_pulls_at_both_branches_and_the_backbone() -> None:
    pair = Distiller(student(), teacher(), bckd()).train()
    pair(batch()).parts["bckd"].backward()
    names = moved(pair)
    assert {"model.head.classification_head.cls_logits.weight", "model.head.regression_head.bbox_reg.weight"} <= names
    assert any(name.startswith("model.backbone.body") for name in names)


def test_it_vanishes_where_both_say_the_same() -> None:
    ours = student()
    pair = Distiller(ours, student(), bckd()).train()
    ours.model.eval()  # as the teacher's norms are
    assert pair(batch()).parts["bckd"].detach() == pytest.approx(0, abs=1e-4)


def test_other_anchors_and_two_stage_detectors_are_refused() -> None:
    with pytest.raises(InputError, match=r"bckd compares anchor by anchor: at stride 8 the student has .*anchor_scale"):
        Distiller(student(anchor_scale=0.25), teacher(), bckd())
    with pytest.raises(InputError, match=r"bckd reads assignment, boxes, class logits, which the student"):
        Distiller(student("faster_rcnn"), teacher("faster_rcnn"), bckd())


def test_negatives_are_the_cells_that_positives_leave() -> None:
    pair = Distiller(student(), teacher(), hint(where="positives")).train()
    context = context_of(pair, "retinanet")
    sides = [
        hint(where=where)[0].view(context, pair.criterion.adapters["hint"]) for where in ("positives", "negatives")
    ]  # type: ignore[arg-type, union-attr]
    for inside, outside in zip(*(side["weight"] for side in sides), strict=True):
        assert not (inside * outside).any() and bool(((inside > 0) | (outside > 0)).all())
        assert outside.sum() == pytest.approx(1)
