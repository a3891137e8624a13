"""Promise 4: distillation that does nothing is an error before the first epoch."""

import copy
from dataclasses import replace

import pytest
import torch
from distill_cases import batch, distiller, every_term, student, teacher
from torch import Tensor

from fakes import same_state, state_of, tiny
from kdet.distill import METHODS, Distiller, Schedule, prove_it_acts
from kdet.distill.methods import l2, rank_mimicking, structural
from kdet.errors import InputError


def test_an_honest_pair_passes_and_shows_its_raw_values() -> None:
    pair = distiller([replace(term, schedule=Schedule(warmup=1.0)) for term in every_term()])
    values = prove_it_acts(pair, batch(), torch.optim.SGD(pair.parameters(), lr=0.1))
    assert set(values) == {term.name for term in every_term()}
    assert all(value > 0 for value in values.values())


def test_the_student_alone_has_nothing_to_prove() -> None:
    assert prove_it_acts(Distiller(student()), batch()) == {}


def test_the_proof_leaves_weights_buffers_and_gradients_untouched() -> None:
    pair = distiller(structural() + rank_mimicking())
    pair(batch()).total.backward()
    before = state_of(pair)
    gradients = {name: p.grad.clone() for name, p in pair.named_parameters() if p.grad is not None}
    prove_it_acts(pair, batch())
    assert same_state(before, state_of(pair))
    for name, p in pair.named_parameters():
        assert (name in gradients) == (p.grad is not None)
        assert p.grad is None or torch.equal(p.grad, gradients[name])
    assert pair.training


def test_weight_zero_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"structural: weight 0 distils nothing"):
        prove_it_acts(distiller(structural(0.0)), batch())


@pytest.mark.parametrize("method", ["structural", "mgd", "crosskd"])  # the last two are not 0 even then
def test_a_teacher_with_the_students_own_weights_teaches_nothing(method: str) -> None:
    detector = tiny(seed=1)
    pair = Distiller(detector, copy.deepcopy(detector), METHODS[method].terms()).train()
    with pytest.raises(InputError, match=r"teacher and student have the same weights"):
        prove_it_acts(pair, batch())


def test_a_term_that_is_zero_is_refused_with_its_value() -> None:
    silent = replace(structural()[0], loss=lambda student, teacher: student[0].sum() * 0)
    with pytest.raises(InputError, match=r"structural: its value on the first batch is 0.0, so it would teach nothing"):
        prove_it_acts(distiller([silent]), batch())


def test_a_student_that_is_frozen_whole_is_refused() -> None:
    pair = distiller(structural())
    pair.model.requires_grad_(False)
    with pytest.raises(InputError, match="no gradient reaches the student"):
        prove_it_acts(pair, batch())


def test_a_student_whose_features_alone_are_frozen_is_refused() -> None:
    pair = distiller(structural())
    pair.model.backbone.requires_grad_(False)
    with pytest.raises(InputError, match="no gradient reaches the student"):
        prove_it_acts(pair, batch())


def detached_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    return (student[0].detach() - teacher[0]).square().mean()


def test_a_loss_on_detached_features_is_refused() -> None:
    with pytest.raises(InputError, match="mine: no gradient reaches the student"):
        prove_it_acts(distiller([replace(l2()[0], name="mine", loss=detached_loss)]), batch())


def student_level_0_only(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    return (student[0] - teacher[0]).square().mean()


def test_an_adapter_that_is_never_trained_is_refused() -> None:
    with pytest.raises(InputError, match=r"mine: its adapter, .*gets no gradient"):
        prove_it_acts(distiller([replace(l2()[0], name="mine", loss=student_level_0_only)]), batch())


def test_an_adapter_that_the_optimizer_does_not_hold_is_refused() -> None:
    pair = distiller(structural())
    with pytest.raises(InputError, match=r"adapters\.structural.*not in the optimizer"):
        prove_it_acts(pair, batch(), torch.optim.SGD(pair.model.parameters(), lr=0.1))


def not_a_number(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    return student[0].sum() * float("nan")


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match=r"mine: its value on the first batch is nan"):
        prove_it_acts(distiller([replace(l2()[0], name="mine", loss=not_a_number)]), batch())


def test_a_placebo_is_the_one_way_past() -> None:
    nothing = replace(structural(0.0)[0], placebo=True)
    detached = replace(l2()[0], loss=detached_loss, placebo=True)
    assert set(prove_it_acts(distiller([nothing, detached]), batch())) == {"structural", "l2"}


def test_one_idle_term_among_acting_ones_is_found() -> None:
    idle = replace(l2()[0], name="idle", loss=detached_loss)
    with pytest.raises(InputError, match="idle"):
        prove_it_acts(Distiller(student(), teacher(), [*structural(), idle]).train(), batch())
