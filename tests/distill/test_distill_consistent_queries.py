"""Two decoders that are asked the same: KD-DETR's consistent queries, and CLoCKDistill's encoder memory."""

import math

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers")

from detr_fakes import CONFIGS, every_type, shared_batch, tiny_detr
from fakes import CLASSES, same_state, state_of, tiny
from kdet.distill import Distiller
from kdet.distill.methods import clockdistill, kd_detr
from kdet.distill.preflight.proof import prove_it_acts
from kdet.distill.views.base import StepContext
from kdet.errors import InputError
from kdet.types import Detector, Need
from losses.cases.crosskd import generalised_iou
from losses.cases.detrdistill import centre_and_size, divergence

ASKED = [kind for kind in CONFIGS if Need.DECODER in tiny_detr(kind).provides]
NEITHER = ("rf_detr", "lw_detr")
"""No encoder behind their backbone, and queries in groups that each learn their first points."""
QUICK = ("rt_detr", "deformable_detr", "dab-detr", "detr")
"""One of each form of query."""
every_asked = pytest.mark.parametrize("kind", ASKED)
every_asked_in_time = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.long) for kind in ASKED]
)


def eval_pair(kind: str, *terms) -> tuple[Distiller, StepContext]:
    """A pair without dropout, and what it sees."""
    pair = Distiller(tiny_detr(kind, seed=1), tiny_detr(kind, seed=2), [t for one in terms for t in one])
    pair.eval()
    given = shared_batch(pair.student)
    assert pair.criterion is not None
    return pair, pair.observe_pair(given)[1][0]


def reached(value: Tensor, detector: Detector) -> list[str]:
    named = {name: p for name, p in detector.model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return [name for name, g in zip(named, grads, strict=True) if g is not None and bool(g.abs().max() > 0)]


def test_which_types_serve():
    assert set(CONFIGS) - set(ASKED) == set(NEITHER)
    for kind in CONFIGS:
        assert (Need.MEMORY in tiny_detr(kind).provides) == (kind not in NEITHER)


@every_asked
def test_a_decoder_asked_its_own_queries_says_what_it_said(kind: str):
    detector = tiny_detr(kind)
    detector.model.eval()
    seen = detector.observe(shared_batch(detector), frozenset({Need.QUERIES, Need.DECODER}))
    assert seen.decoder is not None and seen.query_logits is not None and seen.query_boxes is not None
    logits, boxes = seen.decoder.answer(seen.decoder.queries)
    torch.testing.assert_close(logits, seen.query_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(boxes, seen.query_boxes, rtol=1e-5, atol=1e-3)


@every_asked
def test_queries_of_training_are_not_handed_on(kind: str):
    detector = tiny_detr(kind)
    detector.model.train()
    batch = shared_batch(detector)
    seen = detector.observe(batch, frozenset({Need.QUERIES, Need.DECODER, Need.LOSSES}), batch.targets)
    assert seen.decoder is not None and seen.query_logits is not None
    assert {tuple(q.shape[:2]) for q in seen.decoder.queries.values()} == {tuple(seen.query_logits.shape[:2])}


@every_asked
def test_the_order_of_the_queries_is_that_of_the_answers(kind: str):
    detector = tiny_detr(kind)
    detector.model.eval()
    seen = detector.observe(shared_batch(detector), frozenset({Need.DECODER}))
    assert seen.decoder is not None
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    straight = seen.decoder.answer(seen.decoder.queries)
    shuffled = seen.decoder.answer({name: q[:, order] for name, q in seen.decoder.queries.items()})
    for one, other in zip(straight, shuffled, strict=True):
        torch.testing.assert_close(other, one[:, order], rtol=1e-4, atol=1e-3)


def test_the_loss_is_that_of_the_paper_query_by_query():
    """Σ w (KL + 5 L1 + 2 (1 − GIoU)) / Σ w, w the teacher's highest score; in loops over what both decoders say."""
    pair, context = eval_pair("rt_detr", kd_detr())
    ours, theirs = context.student.decoder, context.teacher
    assert pair.criterion is not None and ours is not None and theirs.decoder is not None
    logits, boxes = ours.answer(theirs.decoder.queries)
    assert theirs.query_logits is not None and theirs.query_boxes is not None
    height, width = context.student.input_size_hw
    frame = torch.tensor([width, height, width, height])
    total = weights = 0.0
    for n in range(3):
        for q in range(20):
            s, t = logits[n, q].tolist(), theirs.query_logits[n, q].tolist()
            a, b = (boxes[n, q] / frame).tolist(), (theirs.query_boxes[n, q] / frame).tolist()
            weight = 1 / (1 + math.exp(-max(t)))
            distance = sum(abs(x - y) for x, y in zip(centre_and_size(*a), centre_and_size(*b), strict=True))
            classes = sum(divergence(x, y) for x, y in zip(s, t, strict=True))
            total += weight * (classes + 5 * distance + 2 * (1 - generalised_iou(a, b)))
            weights += weight
    value = pair.criterion.raw([context])["kd_detr"].sum().item()
    assert weights > 1 and value == pytest.approx(total / weights, rel=1e-4)


@every_asked_in_time
def test_equal_models_have_nothing_to_learn_from_each_other(kind: str):
    pair = Distiller(tiny_detr(kind, seed=1), tiny_detr(kind, seed=1), kd_detr() + clockdistill())
    pair.eval()
    report = pair(shared_batch(pair.student))
    assert report.parts["kd_detr"].detach() == pytest.approx(0, abs=1e-4)
    assert report.parts["clockdistill"].detach() == pytest.approx(0, abs=1e-6)


@every_asked_in_time
def test_two_steps_teach_the_students_decoder_and_leave_the_teacher_alone(kind: str):
    pair = Distiller(tiny_detr(kind, seed=1), tiny_detr(kind, seed=2), kd_detr() + clockdistill()).train()
    batch = shared_batch(pair.student)
    assert pair.teacher is not None
    before = state_of(pair.teacher.model)
    optimizer = torch.optim.SGD(pair.parameters(), lr=1e-3)
    prove_it_acts(pair, batch, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        report = pair(batch)
        report.total.backward()
        optimizer.step()
    assert all(report.parts[name].isfinite() and report.parts[name] > 0 for name in ("kd_detr", "clockdistill"))
    assert same_state(before, state_of(pair.teacher.model))
    names = reached(pair(batch).parts["kd_detr"], pair.student)
    assert any("decoder" in name for name in names)
    assert any("backbone" in name or "conv_encoder" in name for name in names)
    memory = reached(pair(batch).parts["clockdistill"], pair.student)
    assert any("encoder" in name for name in memory) and not any("decoder.layers" in name for name in memory)


@every_type
def test_memory_is_the_neck_weighed_by_the_objects(kind: str):
    if kind in NEITHER:
        with pytest.raises(InputError, match=r"clockdistill reads encoder memory, which the student \(hf\).*use fgd"):
            Distiller(tiny_detr(kind), tiny_detr(kind, seed=2), clockdistill())
        return
    pair, context = eval_pair(kind, clockdistill(foreground_weight=1.0, background_weight=0.0))
    assert context.student.features is not None and context.teacher.features is not None and pair.criterion is not None
    read = pair.criterion.terms[0].view(context, lambda maps: maps)
    assert all(torch.equal(a, b) for a, b in zip(read["student"], context.student.features, strict=True))
    for inside in read["foreground"]:
        assert inside[0].any() and not inside[1].any()  # the second image holds no object


def test_a_teacher_of_other_width_teaches_where_queries_are_cells():
    wide = tiny_detr("rt_detr", seed=2, encoder_hidden_dim=64, d_model=64, decoder_in_channels=[64, 64, 64])
    pair = Distiller(tiny_detr("rt_detr", seed=1), wide, kd_detr() + clockdistill()).train()
    report = pair(shared_batch(pair.student))
    assert report.parts["kd_detr"] > 0 and report.parts["clockdistill"] > 0


def test_a_d_fine_asks_an_rt_detr():
    pair = Distiller(tiny_detr("rt_detr", seed=1), tiny_detr("d_fine", seed=2), kd_detr()).train()
    assert pair(shared_batch(pair.student)).parts["kd_detr"] > 0


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ("detr", "rt_detr", r"student's are embeddings of a detr, 32 wide, the teacher's cells of 3 levels with a box"),
        ("deformable_detr", "detr", r"embeddings of a deformable_detr, 32 wide, the teacher's embeddings of a detr"),
    ],
)
def test_queries_of_another_form_are_refused(student: str, teacher: str, message: str):
    with pytest.raises(InputError, match=rf"kd_detr puts the teacher's queries .*{message}.*use detrdistill") as caught:
        Distiller(tiny_detr(student), tiny_detr(teacher), kd_detr())
    assert "\n" not in str(caught.value)


def test_detectors_that_cannot_be_asked_are_refused():
    with pytest.raises(InputError, match=r"kd_detr reads decoder, which the student \(hf\) does not have: .*detrdist"):
        Distiller(tiny_detr("lw_detr"), tiny_detr("lw_detr", seed=2), kd_detr())
    learned = tiny_detr("rt_detr", learn_initial_query=True)
    with pytest.raises(InputError, match=r"kd_detr reads decoder, which the teacher \(hf\)"):
        Distiller(tiny_detr("rt_detr"), learned, kd_detr())
    with pytest.raises(InputError, match=r"kd_detr reads decoder, which the student \(retinanet\).* no set of boxes"):
        Distiller(tiny(classes=CLASSES), tiny_detr("rt_detr"), kd_detr())
    with pytest.raises(InputError, match=r"clockdistill reads encoder memory, which the student \(retinanet\)"):
        Distiller(tiny(classes=CLASSES), tiny_detr("rt_detr"), clockdistill())
