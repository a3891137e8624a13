"""`weight: auto`: measured against the task's gradient at the neck, and saved with the run."""

from dataclasses import replace

import pytest
import torch
from distill_cases import batch, distiller

from kdet.distill import Distiller, prove_it_acts
from kdet.distill.balance import RECHECK, WINDOW, Balance, gradient_at
from kdet.distill.methods import hint, l2, rank_mimicking, structural


def norms(pair: Distiller) -> dict[str, float]:
    """Of each term's gradient at the student's neck, and of the task's, by plain autograd."""
    assert pair.criterion is not None
    given = batch()
    seen = pair.student.observe(given, pair.criterion.student_needs | {"task losses"}, given.targets)
    values = pair.criterion.raw(pair.sight(given, seen)) | {"task": torch.stack(list(seen.losses.values())).sum()}
    grads = {k: torch.autograd.grad(v, seen.features, retain_graph=True, allow_unused=True) for k, v in values.items()}
    return {k: sum(float(g.square().sum()) for g in found if g is not None) ** 0.5 for k, found in grads.items()}


def test_one_auto_term_pulls_with_its_share_of_the_task():
    pair = distiller(l2("auto"))
    report = pair(batch())
    expected = norms(pair)
    assert pair.criterion.balance.weights()["l2"] == pytest.approx(0.5 * expected["task"] / expected["l2"], rel=1e-4)
    assert report.pulls["l2"].share == pytest.approx(0.5, rel=1e-4)
    assert -1 <= report.pulls["l2"].cosine <= 1
    assert report.parts["l2"].detach() > 0


def test_several_auto_terms_divide_the_share_and_fixed_ones_keep_their_number():
    terms = [replace(term, share=0.8) for term in structural("auto") + rank_mimicking("auto")]
    pair = distiller([*terms, *hint(2.5)])
    pulls = pair(batch(), measure=True).pulls
    assert pulls["structural"].share == pytest.approx(0.4, rel=1e-4)
    assert pulls["rank_mimicking"].share == pytest.approx(0.4, rel=1e-4)
    expected = norms(pair)
    assert pulls["hint"].share == pytest.approx(2.5 * expected["hint"] / expected["task"], rel=1e-3)


def test_both_ways_of_ranking_may_be_auto():
    pair = distiller(rank_mimicking("auto", rank_by="both"))
    pulls = pair(batch()).pulls
    assert [pull.share for pull in pulls.values()] == pytest.approx([0.25, 0.25], rel=1e-4)


def test_fixed_weights_are_measured_only_when_asked():
    pair = distiller(structural())
    assert not pair(batch()).pulls
    plain, measured = pair(batch()), pair(batch(), measure=True)
    assert set(measured.pulls) == {"structural"}
    torch.testing.assert_close(plain.total, measured.total)


def test_the_weight_is_the_geometric_mean_of_a_window_and_then_stays():
    balance = Balance(l2("auto"))
    for task in (1.0, 4.0):
        balance.calibrate(torch.tensor([task]), {"l2": torch.tensor([2.0])})
        balance.count()
    assert balance.weights()["l2"] == pytest.approx(0.5 * 1.0)  # √(½ · 2)
    for _ in range(WINDOW):
        balance.count()
    assert not balance.due()


def test_calibrations_begin_at_the_start_after_the_warm_up_and_at_regular_distances():
    balance = Balance(l2("auto"))
    balance.warmup = 50
    starts, was_due = [], False
    for number in range(50 + RECHECK + 30):
        if balance.due() and not was_due:
            starts.append(number)
        was_due = balance.due()
        balance.count()
    assert starts == [0, 50, 50 + RECHECK]


def test_a_new_calibration_lets_the_old_weight_fade():
    balance = Balance(l2("auto"))
    for number in range(RECHECK + WINDOW):
        if balance.due():
            balance.calibrate(torch.tensor([1.0 if number < RECHECK else 16.0]), {"l2": torch.tensor([1.0])})
        balance.count()
    # Twenty old measurements count as five against the twenty new ones.
    assert balance.weights()["l2"] == pytest.approx(0.5 * 16 ** (20 / 25))


def test_a_batch_that_a_term_sees_nothing_in_measures_nothing():
    balance = Balance(l2("auto"))
    balance.calibrate(torch.tensor([1.0]), {"l2": torch.tensor([0.0])})
    assert balance.weights() == {"l2": 0.0}
    balance.calibrate(torch.tensor([1.0]), {"l2": torch.tensor([0.25])})
    assert balance.weights() == {"l2": pytest.approx(2.0)}


def test_the_calibration_is_part_of_the_state():
    pair, other = distiller(l2("auto")), distiller(l2("auto"))
    pair(batch())
    other.load_state_dict(pair.state_dict())
    assert other.criterion.balance.weights() == pair.criterion.balance.weights()
    assert int(other.criterion.balance.batches) == 1


def test_a_value_that_does_not_depend_on_the_neck_pulls_with_nothing():
    features = [torch.randn(1, 2, 3, 3, requires_grad=True)]
    assert not gradient_at(features, torch.tensor(1.0)).any()
    other = torch.randn(2, requires_grad=True)
    assert not gradient_at(features, other.sum()).any()


def test_the_proof_accepts_auto_and_leaves_its_calibration_alone():
    pair = distiller(l2("auto"))
    prove_it_acts(pair, batch())
    assert int(pair.criterion.balance.batches) == 0 and not pair.criterion.balance.counts.any()
