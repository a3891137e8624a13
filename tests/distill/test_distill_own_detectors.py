"""ATSS and GFL under a teacher: box edges as distributions, and pairs with other families."""

import pytest
import torch
from distill_cases import batch, methods_of, permuted, student, teacher

from kdet.distill import METHODS, Distiller
from kdet.distill.methods import ld, prediction_guided, structural
from kdet.errors import InputError
from kdet.losses import ld_loss
from kdet.types import Detector, Need


def moved(pair: Distiller) -> set[str]:
    return {key for key, p in pair.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_gfl_serves_every_method_on_dense_predictions_and_ld_is_its_own() -> None:
    assert set(methods_of("gfl")) - set(methods_of("retinanet")) == {"ld"}
    assert set(methods_of("atss")) == set(methods_of("retinanet"))


def test_ld_reads_the_edges_of_the_students_positives() -> None:
    pair = Distiller(student("gfl"), teacher("gfl"), ld()).train()
    given = batch("gfl")
    assert pair.criterion is not None
    context = pair.observe_pair(given)[1][0]
    seen, theirs = context.student, context.teacher
    assert seen.assignment is not None and seen.edge_logits is not None and theirs.edge_logits is not None
    assert seen.class_logits is not None
    image, anchor = torch.where(seen.assignment >= 0)
    scores = seen.class_logits[..., 1:].amax(-1).sigmoid()
    expected = ld_loss(
        seen.edge_logits[image, anchor],
        theirs.edge_logits[image, anchor],
        weight=scores[image, anchor],
        normaliser=float(len(image)),
    )
    torch.testing.assert_close(pair.criterion.raw([context])["ld"].sum(), expected)
    assert expected.detach() > 0


def test_ld_pulls_box_branch_and_backbone_and_leaves_the_class_layer() -> None:
    pair = Distiller(student("gfl"), teacher("gfl"), ld()).train()
    pair(batch("gfl")).parts["ld"].backward()
    names = moved(pair)
    assert "model.head.regression_head.bbox_reg.weight" in names
    assert any(name.startswith("model.backbone.body") for name in names)
    assert not any("classification_head" in name for name in names)


def test_ld_vanishes_where_both_say_the_same() -> None:
    ours = student("gfl")
    pair = Distiller(ours, student("gfl"), ld()).train()
    ours.model.eval()  # as the teacher's norms are
    assert pair(batch("gfl")).parts["ld"].detach() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("ours", "theirs"), [("gfl", "atss"), ("retinanet", "gfl")])
def test_ld_is_refused_where_one_side_has_no_distributions(ours: str, theirs: str) -> None:
    with pytest.raises(InputError, match=str(Need.EDGE_LOGITS)):
        Distiller(student(ours), teacher(theirs), ld()).train()(batch(ours))


def two_steps(ours: Detector, theirs: Detector, methods: list[str], name: str) -> list[dict[str, float]]:
    """Parts before each of two steps of SGD, which leave every number finite."""
    pair = Distiller(ours, theirs, [term for method in methods for term in METHODS[method].terms()]).train()
    optimizer = torch.optim.SGD(pair.parameters(), lr=1e-3)
    parts: list[dict[str, float]] = []
    for _ in range(2):
        report = pair(batch(name))
        optimizer.zero_grad()
        report.total.backward()
        torch.nn.utils.clip_grad_norm_(pair.parameters(), 10.0)
        optimizer.step()
        parts.append({key: float(value.detach()) for key, value in report.parts.items()})
    assert all(bool(p.isfinite().all()) for p in pair.parameters())
    return parts


@pytest.mark.parametrize(
    ("ours", "theirs", "methods"),
    [
        ("gfl", "gfl", ["ld", "rank_mimicking", "crosskd"]),
        ("atss", "atss", ["structural", "rank_mimicking", "prediction_guided"]),
        ("retinanet", "gfl", ["structural", "prediction_guided"]),
        ("gfl", "retinanet", ["structural", "rank_mimicking"]),
        ("atss", "fcos", ["structural", "prediction_guided"]),
    ],
)
def test_two_steps_of_a_pair(ours: str, theirs: str, methods: list[str]) -> None:
    wide = {"fpn_channels": 64} if "crosskd" in methods else {}
    first, second = two_steps(student(ours, **wide), teacher(theirs), methods, ours)
    for method in methods:
        assert first[method] > 0 and second[method] > 0
        assert first[method] != second[method]


def test_feature_terms_of_a_gfl_teacher_reach_a_retinanets_backbone() -> None:
    pair = Distiller(student(), teacher("gfl"), structural() + prediction_guided()).train()
    report = pair(batch())
    (report.parts["structural"] + report.parts["prediction_guided"]).backward()
    assert any(name.startswith("model.backbone.body") for name in moved(pair))
    assert not any(name.startswith("model.head.regression_head") for name in moved(pair))


def test_a_gfl_teacher_with_its_classes_in_another_order_gives_the_same_edges() -> None:
    plain = teacher("gfl")
    pairs = [Distiller(student("gfl"), t, ld()).train() for t in (plain, permuted(plain, (2, 0, 1)))]
    one, other = (pair(batch("gfl")).parts["ld"] for pair in pairs)
    torch.testing.assert_close(one, other)
