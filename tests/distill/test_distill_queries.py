"""Which query of the student follows which of the teacher."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Tensor

from fakes import CLASSES, batch_for, tiny
from kdet.distill import Distiller, FrozenTeacher
from kdet.distill.methods import detrdistill, prediction_guided, rank_mimicking, soft_labels
from kdet.distill.pairing import pair
from kdet.distill.views.base import StepContext
from kdet.distill.views.queries import MatchedQueries, binary_logits
from kdet.errors import InputError
from kdet.types import Activation, Level, Observation

LEVELS = (Level("0", 8, 32),)
FAR, NEAR = [0.0, 0.0, 20.0, 20.0], [60.0, 60.0, 96.0, 96.0]
SURE, UNSURE = 6.0, -6.0


def seen(logits: Tensor, boxes: list[list[list[float]]], activation: Activation = "sigmoid") -> Observation:
    """On an input of 96 by 192."""
    return Observation(
        levels=LEVELS,
        input_size_hw=(96, 192),
        query_logits=logits,
        query_boxes=torch.tensor(boxes),
        activation=activation,
    )


def context_of(student: Observation, teacher: Observation, theirs: tuple[str, ...] = CLASSES) -> StepContext:
    pairing = pair(LEVELS, LEVELS, CLASSES, theirs)
    detector = FrozenTeacher(tiny())
    return StepContext(student=student, teacher=teacher, targets=[], pairing=pairing, teacher_detector=detector)


def picked(student: Observation, teacher: Observation, *args: tuple[str, ...], **options: float) -> dict[str, Tensor]:
    return MatchedQueries(**options)(context_of(student, teacher, *args), lambda maps: maps)


def scores(*rows: tuple[int | None, float]) -> Tensor:
    """One row a query: the class it is sure of with this logit, all others unlikely."""
    logits = torch.full((1, len(rows), 3), UNSURE)
    for query, (label, logit) in enumerate(rows):
        if label is not None:
            logits[0, query, label] = logit
    return logits


def test_each_query_that_sees_something_gets_the_nearest_of_its_class():
    student = seen(scores((1, SURE), (0, SURE), (None, 0)), [[NEAR, FAR, FAR]])
    teacher = seen(scores((None, 0), (0, SURE), (1, 1.0)), [[NEAR, FAR, NEAR]])
    found = picked(student, teacher)
    assert student.query_logits is not None and teacher.query_logits is not None
    order = found["weight"].argsort(descending=True)
    assert torch.equal(found["student_logits"][order], student.query_logits[0, [1, 0]])
    assert torch.equal(found["teacher_logits"][order], teacher.query_logits[0, [1, 2]])
    torch.testing.assert_close(found["weight"][order], torch.tensor([SURE, 1.0]).sigmoid())
    torch.testing.assert_close(found["normaliser"], found["weight"].sum())
    fractions = torch.tensor([FAR, NEAR]) / torch.tensor([192, 96, 192, 96])
    torch.testing.assert_close(found["student_boxes"][order], fractions)
    torch.testing.assert_close(found["teacher_boxes"][order], fractions)


def test_the_matching_is_the_cheapest_of_all_orders():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 1, 4, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(2, 1, 4, 2, generator=generator) * 30], -1)
    logits = torch.randn(2, 1, 4, 3, generator=generator)
    student, teacher = (seen(k, b.tolist()) for k, b in zip(logits, boxes, strict=True))
    view = MatchedQueries(threshold=0.0)
    found = view(context_of(student, teacher), lambda maps: maps)
    sizes = torch.tensor([192, 96, 192, 96])
    costs = view._costs(logits[0, 0], boxes[0, 0] / sizes, logits[1, 0].sigmoid().argmax(1), boxes[1, 0] / sizes)
    rows = [int((logits[0, 0] == row).all(1).nonzero()) for row in found["student_logits"]]
    columns = [int((logits[1, 0] == row).all(1).nonzero()) for row in found["teacher_logits"]]
    chosen = costs[rows, columns].sum()
    orders = [torch.tensor(order) for order in permutations(range(4))]
    assert chosen == pytest.approx(min(costs[torch.arange(4), order].sum().item() for order in orders), abs=1e-5)


def test_images_do_not_mix_and_one_may_have_nothing():
    logits = torch.cat([scores((0, SURE), (None, 0)), scores((None, 0), (None, 0))])
    teacher = seen(logits, [[FAR, NEAR], [FAR, NEAR]])
    student = seen(torch.zeros(2, 2, 3), [[NEAR, FAR], [FAR, FAR]])
    found = picked(student, teacher)
    assert len(found["weight"]) == 1
    torch.testing.assert_close(found["student_boxes"], found["teacher_boxes"])


def test_a_teacher_that_sees_nothing_teaches_nothing_and_breaks_nothing():
    student = seen(torch.zeros(1, 2, 3, requires_grad=True), [[NEAR, FAR]])
    found = picked(student, seen(scores((None, 0)), [[FAR]]))
    assert len(found["weight"]) == 0 and found["normaliser"] == 1
    loss = detrdistill()[0].loss
    assert callable(loss)
    value = loss(**found)
    value.backward()
    assert value.item() == 0 and student.query_logits is not None
    assert torch.equal(student.query_logits.grad, torch.zeros(1, 2, 3))


def test_a_teacher_with_more_queries_keeps_the_best_pairs():
    teacher = seen(scores((0, SURE), (0, SURE), (1, SURE)), [[FAR, FAR, NEAR]])
    found = picked(seen(scores((1, SURE), (0, SURE)), [[NEAR, FAR]]), teacher)
    assert len(found["weight"]) == 2
    torch.testing.assert_close(found["student_boxes"], found["teacher_boxes"])


def test_the_threshold_is_on_the_teachers_highest_score():
    teacher = seen(scores((0, 0.0), (1, -2.0)), [[FAR, NEAR]])  # 0.5 and 0.12
    student = seen(torch.zeros(1, 2, 3), [[FAR, NEAR]])
    for threshold, count in ((0.1, 2), (0.2, 1), (0.6, 0)):
        assert len(picked(student, teacher, threshold=threshold)["weight"]) == count


def test_classes_are_paired_by_name():
    theirs = ("triangle", "N/A", "circle", "square")
    logits = torch.tensor([[[1.0, 9.0, 2.0, 3.0]]])
    found = picked(seen(torch.zeros(1, 1, 3), [[FAR]]), seen(logits, [[FAR]]), theirs)
    assert found["teacher_logits"].tolist() == [[2.0, 3.0, 1.0]]
    torch.testing.assert_close(found["weight"], torch.tensor([3.0]).sigmoid())  # "N/A" is no class


def test_boxes_are_fractions_of_what_the_student_sees_whatever_the_teachers_size():
    """A teacher at twice the size still has its boxes in the student's pixels."""
    student, teacher = (seen(scores((0, SURE)), [[NEAR]]) for _ in range(2))
    found = picked(student, replace(teacher, input_size_hw=(192, 384)))
    torch.testing.assert_close(found["teacher_boxes"], found["student_boxes"])
    torch.testing.assert_close(found["student_boxes"][0], torch.tensor(NEAR) / torch.tensor([192, 96, 192, 96]))


def test_a_softmax_head_is_one_question_per_class():
    logits = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(binary_logits(logits, "softmax").sigmoid(), logits.softmax(-1))
    certain = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    binary = binary_logits(certain, "softmax")
    binary.sum().backward()
    assert binary.isfinite().all() and certain.grad is not None and certain.grad.isfinite().all()


def test_methods_that_cannot_be_served_say_what_to_use():
    pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers")
    from detr_fakes import tiny_detr

    queries = r"hf\) does not have: it predicts a set of boxes, .* use structural or lp on its features, or detrdistill"
    for terms in (rank_mimicking(), prediction_guided(), soft_labels(), soft_labels(on="regions")):
        with pytest.raises(InputError, match=rf"{terms[0].name} reads .* the student \({queries}"):
            Distiller(tiny_detr(), tiny_detr(seed=2), terms)
    with pytest.raises(InputError, match=rf"rank_mimicking reads class logits, which the teacher \({queries}"):
        Distiller(tiny(), tiny_detr(), rank_mimicking())
    with pytest.raises(
        InputError, match=r"detrdistill reads queries, which the student \(retinanet\) .* no set of box"
    ):
        Distiller(tiny(), tiny_detr(), detrdistill())


@pytest.mark.parametrize(("kind", "other"), [("rt_detr", "rt_detr"), ("rt_detr", "detr"), ("detr", "d_fine")])
def test_a_step_teaches_the_students_queries(kind: str, other: str):
    pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers")
    from detr_fakes import shared_batch, tiny_detr

    pair_of = Distiller(tiny_detr(kind, seed=1), tiny_detr(other, seed=2), detrdistill())
    pair_of.train()
    report = pair_of(shared_batch(pair_of.student))
    value = report.parts["detrdistill"]
    assert value.isfinite() and value > 0
    names = [name for name, p in pair_of.model.named_parameters() if p.requires_grad]
    parameters = [dict(pair_of.model.named_parameters())[name] for name in names]
    reached = [
        g is not None and bool(g.abs().max() > 0) for g in torch.autograd.grad(value, parameters, allow_unused=True)
    ]
    assert any(hit and "backbone" in name for hit, name in zip(reached, names, strict=True))
    assert any(hit and "decoder" in name for hit, name in zip(reached, names, strict=True))


@pytest.mark.parametrize("teacher", ["rt_detr", "deformable_detr", "lw_detr", "detr"])
def test_features_teach_a_detector_of_another_library(teacher: str):
    pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers")
    from detr_fakes import STRIDES, tiny_detr
    from kdet.distill.methods import structural

    pair_of = Distiller(tiny(), tiny_detr(teacher), structural())
    pair_of.train()
    assert pair_of.pairing is not None
    exact = [p.stride for p in pair_of.pairing.levels if p.exact]
    assert exact == [s for s in (8, 16, 32, 64, 128) if s in STRIDES[teacher]]
    value = pair_of(batch_for(pair_of.student)).parts["structural"]
    assert value > 0 and value.requires_grad
