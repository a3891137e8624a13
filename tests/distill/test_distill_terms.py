"""Every method acts on every trainable; totals, weights and schedules add up."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from distill_cases import DENSE_METHODS, batch, distiller, every_term, methods_of, student, teacher
from torch import Tensor

from fakes import images_and_targets
from kdet.distill import METHODS, Distiller, Schedule, Term
from kdet.distill.methods import l2, rank_mimicking, soft_labels, structural
from kdet.errors import InputError, NotANumber
from suites import quick


@pytest.mark.parametrize(
    ("name", "method"),
    quick([(n, m) for n in ("retinanet", "fcos", "ssdlite") for m in methods_of(n)], lambda n, m: n == "retinanet"),
)
def test_every_trainable_gets_a_gradient(method: str, name: str) -> None:
    pair = distiller(METHODS[method].terms(), name)
    if name == "retinanet":
        adapters = [key for key, _ in pair.named_parameters() if "adapters" in key]
        assert bool(adapters) == bool(pair.criterion.terms[0].view.adapted_maps)
    pair(batch(name)).total.backward()
    lost = [key for key, p in pair.named_parameters() if p.requires_grad and p.grad is None]
    assert not lost


@pytest.mark.parametrize("method", DENSE_METHODS)
def test_a_method_alone_reaches_student_and_adapter(method: str) -> None:
    pair = distiller(METHODS[method].terms())
    report = pair(batch())
    value = report.parts[method]
    assert torch.isfinite(value) and value.detach() > 0
    value.backward()
    moved = [key for key, p in pair.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert any(key.startswith("model.backbone.body") for key in moved)
    # P7 of 96 pixels is one cell: under a range per channel it is constant on both sides and teaches nothing.
    living = [f"convolutions.{level}.weight" for level in range(4)]
    expected = [key for key, _ in pair.named_parameters() if key.endswith(tuple(living))]
    assert set(expected) <= set(moved)


def test_the_total_is_the_sum_of_task_losses_and_terms() -> None:
    pair = distiller(every_term())
    report = pair(batch())
    assert set(report.parts) == {"task/classification", "task/bbox_regression", *(term.name for term in every_term())}
    torch.testing.assert_close(report.total, torch.stack(list(report.parts.values())).sum())


def test_without_a_teacher_the_distiller_is_the_students_own_training() -> None:
    detector = student()
    pair = Distiller(detector).train()
    report = pair(batch())
    assert set(report.parts) == {"task/classification", "task/bbox_regression"}
    assert set(pair.state_dict()) == {f"model.{key}" for key in detector.model.state_dict()}


def test_plain_lists_of_images_and_targets_are_the_same_as_a_batch() -> None:
    pair = distiller(structural() + rank_mimicking())
    torch.manual_seed(3)
    from_batch = pair(batch())
    from_lists = pair(*images_and_targets())
    torch.testing.assert_close(from_lists.total, from_batch.total)
    with pytest.raises(InputError, match="targets"):
        pair(images_and_targets()[0])


@pytest.mark.parametrize("method", quick(DENSE_METHODS, lambda method: method in ("structural", "rank_mimicking")))
def test_weights_enter_linearly(method: str) -> None:
    torch.manual_seed(5)
    once = distiller(METHODS[method].terms(1.0))
    thrice = distiller(METHODS[method].terms(3.0))
    thrice.load_state_dict(once.state_dict())
    first, second = once(batch()).parts[method], thrice(batch()).parts[method]
    torch.testing.assert_close(3 * first, second)


def test_a_schedule_scales_its_own_term_alone() -> None:
    term = structural(2.0)[0]
    scheduled = Term(
        name="later", loss=term.loss, view=term.view, weight=2.0, adapter="always", schedule=Schedule(warmup=0.5)
    )
    pair = distiller([scheduled, *l2()])
    full = pair(batch(), progress=1.0).parts
    half = pair(batch(), progress=0.25).parts
    torch.testing.assert_close(half["later"], full["later"] / 2)
    torch.testing.assert_close(half["l2"], full["l2"])
    assert pair(batch(), progress=0.0).parts["later"].detach() == 0


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(), {0: 1, 0.5: 1, 1: 1}),
        (Schedule(warmup=0.5), {0: 0, 0.25: 0.5, 0.5: 1, 1: 1}),
        (Schedule(stop=0.5), {0: 1, 0.49: 1, 0.5: 0, 1: 0}),
        (Schedule(decay=0.5), {0: 1, 0.5: 1, 0.75: 0.5, 1: 0}),
        (Schedule(warmup=0.2, decay=0.4, stop=0.8), {0.1: 0.5, 0.4: 1, 0.6: 0.5, 0.8: 0, 1: 0}),
    ],
)
def test_schedules_rise_hold_fall_and_end(schedule: Schedule, values: dict[float, float]) -> None:
    assert {at: schedule.factor(at) for at in values} == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize("wrong", [{"warmup": -0.1}, {"stop": 1.5}, {"warmup": 0.6, "stop": 0.5}, {"decay": -1.0}])
def test_impossible_schedules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Schedule(**wrong)


def test_two_terms_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two terms are called 'structural'"):
        distiller(structural() + structural())


@pytest.mark.parametrize("terms", [rank_mimicking(), METHODS["prediction_guided"].terms(), soft_labels()])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_dense_methods_asked_of_faster_rcnn_say_why_and_what_to_use(terms: list[Term], side: str) -> None:
    rcnn_side = {"student": student, "teacher": teacher}[side]("faster_rcnn")
    pair = (rcnn_side, teacher()) if side == "student" else (student(), rcnn_side)
    with pytest.raises(
        InputError, match=rf"{terms[0].name} reads .*{side} \(faster_rcnn\).*structural or lp"
    ) as caught:
        Distiller(*pair, terms)
    assert "two-stage" in str(caught.value) and "\n" not in str(caught.value)


def test_both_ways_of_ranking_are_the_mean_of_each() -> None:
    both = distiller(rank_mimicking(4.0, rank_by="both"))
    by_class = distiller(rank_mimicking(4.0))
    parts, alone = both(batch()).parts, by_class(batch()).parts
    torch.testing.assert_close(parts["rank_mimicking"] * 2, alone["rank_mimicking"])
    assert parts["rank_mimicking_box"].detach() > 0


@pytest.mark.parametrize("method", ["structural", "mgd", "hint", "prediction_guided", "attention_transfer"])
def test_strides_leave_out_levels(method: str) -> None:
    torch.manual_seed(4)
    some = distiller([replace(term, strides=(8, 32)) for term in METHODS[method].terms()])
    assert some.criterion is not None
    assert [level.stride for level in some.criterion.pairings[method].levels] == [8, 32]
    value = some(batch()).parts[method]
    value.backward()
    lost = [key for key, p in some.criterion.named_parameters() if p.grad is None]
    assert value.detach() > 0 and not lost
    convolutions = [key for key, p in some.criterion.adapters.named_parameters() if p.ndim == 4]
    assert len(convolutions) == (0 if method == "attention_transfer" else 2)


def test_strides_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected some of the paired strides \[8, 16, 32, 64, 128\], got \[4\]"):
        distiller([replace(structural()[0], strides=(4,))])
    with pytest.raises(InputError, match=r"rank_mimicking compares no neck features"):
        distiller([replace(rank_mimicking()[0], strides=(8,))])


@pytest.mark.parametrize(("error", "words"), [(NotANumber("got NaN"), None), (ValueError("another"), "another")])
def test_only_a_refusal_of_nan_stands_for_nan(error: ValueError, words: str | None) -> None:
    def refuses(**inputs: Any) -> Tensor:
        raise error

    (term,) = METHODS["hint"].terms()
    pair, images = distiller([replace(term, loss=refuses)]), batch()
    assert pair.criterion is not None
    values = pair.criterion.by_level(pair.observe_pair(images)[1])
    if words is None:
        assert all(value.isnan() for _, value in values)
    else:
        with pytest.raises(ValueError, match=words):
            list(values)
