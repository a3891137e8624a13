"""`weight: auto`: measured against the task's gradient at the neck, and saved with the run."""

from dataclasses import replace

import pytest
import torch
from distill_cases import DENSE_METHODS, batch, distiller

from kdet.distill import METHODS, Distiller, prove_it_acts
from kdet.distill.methods import crosskd, hint, l2, rank_mimicking, structural
from kdet.distill.weighting.balance import RECHECK, WINDOW, Balance, gradient_at


def norms(pair: Distiller) -> dict[str, list[float]]:
    """Of each part's gradient at each of the student's neck outputs, and of the task's, by plain autograd."""
    criterion = pair.criterion
    assert criterion is not None
    given = batch()
    seen, contexts = pair.observe_pair(given)
    raw = criterion.raw(contexts)
    values = {
        part.name: value
        for name, parts in criterion.parts.items()
        for part, value in zip(parts, raw[name].unbind(), strict=True)
    }
    values["task"] = torch.stack(list(seen.losses.values())).sum()
    grads = {k: torch.autograd.grad(v, seen.features, retain_graph=True, allow_unused=True) for k, v in values.items()}
    return {k: [0.0 if g is None else float(g.norm()) for g in found] for k, found in grads.items()}


def whole(levels: list[float]) -> float:
    return sum(norm**2 for norm in levels) ** 0.5


def balance_of(*names: str) -> Balance:
    """Of auto terms that are not divided, since each compares one level."""
    pair = distiller([replace(term, name=name, strides=(8,)) for name in names for term in l2("auto")])
    assert pair.criterion is not None
    return pair.criterion.balance


def test_one_auto_term_pulls_with_its_share_of_the_task_at_every_level() -> None:
    pair = distiller(l2("auto"))
    report = pair(batch())
    expected, weights = norms(pair), pair.criterion.balance.weights()
    for i, (level, task) in enumerate(zip(pair.pairing.levels, expected["task"], strict=True)):
        name = f"l2/{level.stride}"
        assert weights[name] == pytest.approx(task / expected[name][i], rel=1e-4)
    # Not exactly three: RetinaNet makes P6 and P7 from P5, so that these pull at P5 too.
    assert report.gradients["l2"].ratio == pytest.approx(1, rel=0.05)
    assert -1 <= report.gradients["l2"].cosine <= 1
    assert report.parts["l2"].detach() > 0


@pytest.mark.long
@pytest.mark.parametrize(
    "method",
    # MGD and FGD have a trained part a level, which starts at random.
    [m for m in DENSE_METHODS if "features" in METHODS[m].needs()[0] and m not in ("mgd", "fgd")],
)
def test_the_levels_of_a_term_add_up_to_the_term(method: str) -> None:
    torch.manual_seed(0)
    one, parts = distiller(METHODS[method].terms(1.0)), distiller(METHODS[method].terms("auto"))
    parts.load_state_dict({k: v for k, v in one.state_dict().items() if "balance" not in k}, strict=False)
    values = []
    for pair in (one, parts):
        values.append(pair.criterion.raw(pair.observe_pair(batch())[1])[method])
    levels = 4 if method == "pkd" else len(one.pairing.levels)
    assert len(values[0]) == 1 and len(values[1]) == levels
    divided = levels if method == "prediction_guided" else 1  # a mean over levels, not a sum
    torch.testing.assert_close(values[1].sum() / divided, values[0].sum())


def test_a_level_on_which_a_loss_is_constant_keeps_no_weight() -> None:
    balance = balance_of("l2")
    balance.calibrate([torch.tensor([1.0])] * 5, {"l2": [torch.tensor([1e-8])] * 5})
    assert balance.weights() == {"l2": 0.0}


def test_several_auto_terms_divide_the_share_and_fixed_ones_keep_their_number():
    terms = [replace(term, ratio=0.8) for term in rank_mimicking("auto") + crosskd("auto")]
    pair = distiller([*terms, *hint(2.5)])
    gradients = pair(batch(), measure=True).gradients
    assert gradients["crosskd"].ratio == pytest.approx(0.4, rel=1e-4)
    assert gradients["rank_mimicking"].ratio == pytest.approx(0.4, rel=1e-4)
    expected = norms(pair)
    assert gradients["hint"].ratio == pytest.approx(2.5 * whole(expected["hint"]) / whole(expected["task"]), rel=1e-3)


def test_both_ways_of_ranking_may_be_auto():
    pair = distiller(rank_mimicking("auto", rank_by="both"))
    gradients = pair(batch()).gradients
    assert [pull.ratio for pull in gradients.values()] == pytest.approx([0.5, 0.5], rel=1e-4)


def test_fixed_weights_are_measured_only_when_asked():
    pair = distiller(structural("published"))
    assert not pair(batch()).gradients
    plain, measured = pair(batch()), pair(batch(), measure=True)
    assert set(measured.gradients) == {"structural"}
    torch.testing.assert_close(plain.total, measured.total)


def measure(balance: Balance, task: float, term: float) -> None:
    """One batch whose gradients have these norms."""
    balance.calibrate([torch.tensor([task])], {"l2": [torch.tensor([term])]})
    balance.count()


def test_the_weight_is_the_ratio_of_the_sums_over_a_window_and_then_stays():
    balance = balance_of("l2")
    for task, term in ((1.0, 2.0), (4.0, 3.0)):
        measure(balance, task, term)
    assert balance.weights()["l2"] == pytest.approx(5 / 5)
    for _ in range(WINDOW):
        balance.count()
    assert not balance.due()


def test_a_level_is_judged_by_the_few_batches_with_objects_there():
    balance = balance_of("l2")
    for number in range(WINDOW):
        measure(balance, 1.0 if number == 7 else 0.001, 0.5)
        assert balance.ended() == (number == WINDOW - 1)
    # One batch of twenty pulls: 1.019 in all, against 10; by the mean of the ratios' logarithms it were 0.0085.
    assert balance.weights()["l2"] == pytest.approx(1.019 / 10)
    assert balance.describe() == "weight: auto, measured over 20 batches: l2 0.1019"


def test_a_level_that_never_has_an_object_keeps_its_weight_and_the_log_says_so():
    balance = balance_of("l2")
    for _ in range(WINDOW):
        measure(balance, 0.0, 0.5)
    assert balance.weights() == {"l2": 0.0}
    assert balance.describe() == (
        "weight: auto, measured over 20 batches: l2 0; l2 at 0, since the task or the term does not pull there"
    )
    for calibration, task in ((1, 2.0), (2, 0.0)):
        balance.batches.fill_(calibration * RECHECK)
        for _ in range(WINDOW):
            measure(balance, task, 0.5)
        assert balance.weights() == {"l2": pytest.approx(4)}  # what the second one sees, the third does not


def test_numbers_that_are_not_finite_measure_nothing():
    balance = balance_of("l2")
    measure(balance, 1.0, 2.0)
    measure(balance, float("inf"), 2.0)
    measure(balance, 1.0, float("nan"))
    assert balance.weights() == {"l2": pytest.approx(0.5)}
    assert "over 1 batches" in balance.describe()


def test_calibrations_begin_at_the_start_after_the_warm_up_and_at_regular_distances():
    balance = balance_of("l2")
    balance.warmup = 50
    starts, was_due = [], False
    for number in range(50 + RECHECK + 30):
        if balance.due() and not was_due:
            starts.append(number)
        was_due = balance.due()
        balance.count()
    assert starts == [0, 50, 50 + RECHECK]


def test_a_new_calibration_lets_the_old_weight_fade():
    balance = balance_of("l2")
    for _ in range(WINDOW):
        measure(balance, 100.0, 100.0)
    balance.batches.fill_(RECHECK)
    for _ in range(WINDOW):
        measure(balance, 16.0, 1.0)
    # Twenty old batches count as five against the twenty new ones, however large their gradients were.
    assert balance.weights()["l2"] == pytest.approx(16 ** (20 / 25))


def test_a_term_has_no_weight_before_it_sees_something():
    balance = balance_of("l2")
    measure(balance, 1.0, 0.0)
    assert balance.weights() == {"l2": 0.0}
    measure(balance, 1.0, 0.25)
    assert balance.weights() == {"l2": pytest.approx(2 / 0.25)}


def test_the_calibration_is_part_of_the_state():
    pair, other = distiller(l2("auto")), distiller(l2("auto"))
    pair(batch())
    other.load_state_dict(pair.state_dict())
    assert other.criterion.balance.weights() == pair.criterion.balance.weights()
    assert int(other.criterion.balance.batches) == 1


def test_a_value_that_does_not_depend_on_the_neck_pulls_with_nothing():
    features = [torch.randn(1, 2, 3, 3, requires_grad=True)]
    assert not any(level.any() for level in gradient_at(features, torch.tensor(1.0)))
    other = torch.randn(2, requires_grad=True)
    assert not any(level.any() for level in gradient_at(features, other.sum()))


def test_the_proof_accepts_auto_and_leaves_its_calibration_alone():
    pair = distiller(l2("auto"))
    prove_it_acts(pair, batch())
    assert int(pair.criterion.balance.batches) == 0 and not pair.criterion.balance.measured.any()


def weak_heads(pair: Distiller) -> Distiller:
    """Heads whose gradient at the neck is small, as over large images: below fp16's least number on coarse levels."""
    with torch.no_grad():
        for name, module in pair.student.model.named_modules():
            if name.endswith(("cls_logits", "bbox_reg")):
                module.weight *= 1e-4
    return pair


def test_under_fp16_small_gradients_are_measured_as_they_are_in_float32():
    terms = l2("auto") + rank_mimicking("auto")
    full, half = weak_heads(distiller(terms)), weak_heads(distiller(terms))
    half.load_state_dict(full.state_dict())
    full(batch())
    with torch.autocast("cpu", dtype=torch.float16):
        half(batch())
    expected = full.criterion.balance.weights()
    assert min(expected.values()) > 0
    assert half.criterion.balance.weights() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e3])
def test_a_gradient_through_half_precision_neither_vanishes_nor_overflows(size: float) -> None:
    feature = torch.ones(4, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        found = gradient_at([feature], size * (feature @ (2 * torch.eye(4))).float().sum())
    torch.testing.assert_close(found[0], torch.full((16,), 2.0 * size), rtol=1e-3, atol=0)
    half = torch.ones(16, dtype=torch.float16, requires_grad=True)  # a model in half precision
    torch.testing.assert_close(gradient_at([half], 2 * size * half.float().sum())[0], found[0], rtol=1e-3, atol=0)


def test_levels_that_are_frozen_pull_with_nothing():
    free, frozen = torch.ones(2, requires_grad=True), torch.ones(2)
    found = gradient_at([frozen, free], (frozen * free).sum())
    assert [level.tolist() for level in found] == [[0.0, 0.0], [1.0, 1.0]]


def test_the_proof_sees_small_gradients_under_fp16():
    def weak(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
        return 1e-6 * sum((s - t).float().square().mean() for s, t in zip(student, teacher, strict=True))

    pair = distiller([replace(l2(1.0)[0], name="weak", loss=weak)])
    with torch.autocast("cpu", dtype=torch.float16):
        assert prove_it_acts(pair, batch())["weak"] > 0
