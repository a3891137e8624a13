"""Promise 4: distillation that does nothing is an error before the first epoch."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from distill_cases import batch, distiller, every_term, student, teacher
from torch import Tensor, nn

from fakes import same_state, state_of, tiny
from kdet.distill import METHODS, Distiller, Schedule, prove_it_acts
from kdet.distill.methods import l2, rank_mimicking, structural
from kdet.distill.preflight.proof import examine, state_hash
from kdet.errors import InputError
from kdet.types import Batch, Detector, Need, Observation


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


def test_weight_zero_is_refused() -> None:
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
        prove_it_acts(distiller([replace(l2(1.0)[0], name="mine", loss=student_level_0_only)]), batch())


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


def altered(
    detector: Detector,
    given: Callable[[Batch], Batch] = lambda batch: batch,
    seen: Callable[[Observation], Observation] = lambda observation: observation,
) -> Detector:
    """The detector with a mistake in its adapter: in what it is given, or in what it reveals."""
    other = copy.copy(detector)
    other.observe = lambda batch, needs, targets=None: seen(detector.observe(given(batch), needs, targets))
    return other


def faults_of(ours: Detector, theirs: Detector, method: str = "structural") -> list[str]:
    """What is wrong with a pair."""
    return examine(Distiller(ours, theirs, METHODS[method].terms()).train(), batch()).all_faults


def test_an_honest_pair_has_no_fault_whatever_was_looked_at() -> None:
    pair = distiller(every_term())
    evidence = examine(pair, batch(), torch.optim.SGD(pair.parameters(), lr=0.1))
    assert len(evidence.faults) == 9 and not evidence.all_faults


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn"])
def test_other_families_pass_too(name: str) -> None:
    assert prove_it_acts(distiller(structural(), name), batch(name))["structural"] > 0


def test_a_dead_teacher_is_found_unless_a_placebo_is_meant() -> None:
    """Nothing of the image is left behind the teacher's neck."""
    dead = teacher()
    for name, parameter in dead.model.named_parameters():
        if ".fpn." in name:
            parameter.data.zero_()
    assert any("or the model is dead (did its weights load?)" in fault for fault in faults_of(student(), dead))
    placebo = Distiller(student(), dead, [replace(structural()[0], placebo=True)]).train()
    assert prove_it_acts(placebo, batch())


def test_all_faults_are_found_and_the_error_counts_them() -> None:
    pair = distiller([*structural(0.0), replace(l2()[0], loss=detached_loss)])
    assert [fault.split(":")[0] for fault in examine(pair, batch()).all_faults] == ["structural", "l2", "l2"]
    with pytest.raises(InputError, match=r"weight 0 .*\(and 2 more; `kdet check` names them all\)"):
        prove_it_acts(pair, batch())


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_features_that_no_hook_fills_are_named_with_the_term_that_reads_them(side: str) -> None:
    def hooked(detector: Detector) -> Detector:
        """Reads its features through a hook on a layer that never runs."""
        kept: list[Tensor] = []
        detector.model.never_called = nn.Conv2d(3, 3, 1)
        detector.model.never_called.register_forward_hook(lambda layer, given, output: kept.append(output))
        return altered(detector, seen=lambda observation: replace(observation, features=kept))

    pair = (hooked(student()), teacher()) if side == "student" else (student(), hooked(teacher()))
    assert faults_of(*pair) == [
        f"structural: reads the {side}'s features, and its observe() left them empty; the layer that should give them "
        "never ran, so hook one that does, or call it in observe()"
    ]


def test_head_features_that_no_hook_fills_are_named_too() -> None:
    silent = altered(teacher(), seen=lambda observation: replace(observation, head_features=()))
    found = faults_of(student(), silent, "crosskd")
    assert len(found) == 1 and "crosskd: reads the teacher's head features" in found[0]


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_features_of_an_earlier_batch_are_found(side: str) -> None:
    def stale(detector: Detector) -> Detector:
        old = detector.observe(batch(), frozenset({Need.FEATURES})).features
        return altered(detector, seen=lambda observation: replace(observation, features=old))

    pair = (stale(student()), teacher()) if side == "student" else (student(), stale(teacher()))
    assert any(f"the {side}'s features are the same for other images" in fault for fault in faults_of(*pair))


def test_a_teacher_whose_model_never_runs_is_found() -> None:
    asleep = teacher()
    old = asleep.observe(batch(), frozenset({Need.FEATURES}))
    asleep.observe = lambda batch, needs, targets=None: old
    assert any("the teacher: no layer of its model ran" in fault for fault in faults_of(student(), asleep))


def test_fewer_feature_maps_than_levels_are_found() -> None:
    short = altered(teacher(), seen=lambda observation: replace(observation, features=observation.features[:3]))
    assert faults_of(student(), short) == ["the teacher names 5 levels and gave 3 feature maps; make them agree"]


def test_detached_student_features_are_found() -> None:
    def detached(observation: Observation) -> Observation:
        return replace(observation, features=[level.detach() for level in observation.features])

    found = faults_of(altered(student(), seen=detached), teacher())
    assert len(found) == 1
    assert "structural: no gradient reaches the student; are its features detached" in found[0]


def test_a_teacher_with_one_module_in_training_mode_is_found_by_name() -> None:
    pair = distiller(structural())
    assert pair.teacher is not None
    pair.teacher.model.backbone.body.bn1.training = True
    found = examine(pair, batch()).faults
    assert "backbone.body.bn1 is in training mode" in found["the teacher is frozen and in evaluation mode"][0]
    assert "changed in one step" in found["the step left the teacher unchanged"][0]


def test_a_teacher_that_can_be_trained_is_found() -> None:
    pair = distiller(structural())
    assert pair.teacher is not None
    pair.teacher.model.head.requires_grad_(True)
    theirs = pair.teacher.model.parameters()
    found = examine(pair, batch(), torch.optim.SGD([*pair.parameters(), *theirs], lr=0.1)).all_faults
    assert any("the teacher's backbone.body.conv1.weight is in the optimizer" in fault for fault in found)
    assert any("requires a gradient; freeze it" in fault for fault in found)


def test_an_optimizer_without_the_student_is_found() -> None:
    pair = distiller(structural())
    found = examine(pair, batch(), torch.optim.SGD(pair.criterion.parameters(), lr=0.1)).all_faults
    assert found == ["the optimizer holds nothing of the student; build it from distiller.parameters()"]


def flipped(batch: Batch) -> Batch:
    return replace(batch, images=batch.images.flip(3))


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_other_pixels_for_one_of_the_two_are_found(side: str) -> None:
    pair = (altered(student(), flipped), teacher()) if side == "student" else (student(), altered(teacher(), flipped))
    found = faults_of(*pair)
    assert len(found) == 1 and f"the {side} does not see the batch's pixels: they explain " in found[0]


def test_a_student_that_normalises_the_batch_in_place_is_found() -> None:
    def in_place(batch: Batch) -> Batch:
        batch.images.sub_(0.5)
        return batch

    assert any(
        "writes into the batch's images" in fault for fault in faults_of(altered(student(), in_place), teacher())
    )


def test_a_loss_that_refuses_its_input_says_so() -> None:
    odd = altered(teacher(), seen=lambda o: replace(o, features=[level[:, :7] for level in o.features]))
    found = faults_of(student(), odd)
    assert len(found) == 1 and found[0].startswith("a term cannot be computed: expected the teacher's shape")


def test_the_hash_sees_a_single_bit_of_a_buffer() -> None:
    model = teacher().model
    before = state_hash(model)
    assert state_hash(model) == before
    model.backbone.body.bn1.running_mean[0] += 1e-6
    assert state_hash(model) != before
