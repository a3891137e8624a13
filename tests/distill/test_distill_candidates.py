"""What the views on candidates pick, against loops in plain Python over images, objects and anchors."""

import math

import pytest
import torch
from distill_cases import batch, permuted, student, teacher
from torchvision.ops import box_iou

from fakes import CLASSES
from kdet.distill import Distiller
from kdet.distill.methods import rank_mimicking, soft_labels
from kdet.distill.views.base import StepContext
from kdet.errors import InputError
from kdet.types import Observation, Target


def context_of(pair: Distiller, name: str) -> StepContext:
    """One batch as the terms see it."""
    assert pair.criterion is not None
    given = batch(name)
    return pair.observe_pair(given)[1][0]


def column(names: tuple[str, ...], label: int) -> int:
    return names.index(("__background__", *CLASSES)[label])


def one_score(seen: Observation, image: int, anchor: int, wanted: int) -> float:
    """The score that NMS sorts by, for one class of one candidate."""
    assert seen.class_logits is not None
    logits = seen.class_logits[image, anchor].tolist()
    if seen.activation == "softmax":
        return math.exp(logits[wanted]) / sum(math.exp(value) for value in logits)
    score = 1 / (1 + math.exp(-logits[wanted]))
    if seen.quality_logits is None:
        return score
    return math.sqrt(score / (1 + math.exp(-float(seen.quality_logits[image, anchor].detach()))))


def divergence(theirs: list[float], ours: list[float]) -> float:
    """KL(teacher ‖ student) between the softmax over one object's candidates."""

    def shares(values: list[float]) -> list[float]:
        return [math.exp(v) / sum(math.exp(w) for w in values) for v in values]

    return sum(t * (math.log(t) - math.log(s)) for t, s in zip(shares(theirs), shares(ours), strict=True))


def naive_rank_mimicking(pair: Distiller, context: StepContext) -> float:
    assert context.student.assignment is not None and pair.teacher is not None
    losses = []
    for image, target in enumerate(context.targets):
        for index, label in enumerate(target["labels"].tolist()):
            found = [a for a, k in enumerate(context.student.assignment[image].tolist()) if k == index]
            if not found:
                continue
            theirs = column(pair.teacher.class_names, label)
            losses.append(
                divergence(
                    [one_score(context.teacher, image, a, theirs) for a in found],
                    [one_score(context.student, image, a, label) for a in found],
                )
            )
    assert len(losses) == 5
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssdlite", "atss", "gfl"])
def test_rank_mimicking_is_the_papers_sum_over_objects(name: str) -> None:
    pair = Distiller(student(name), permuted(teacher(name), (1, 2, 0)), rank_mimicking(1.0)).train()
    context = context_of(pair, name)
    assert pair.criterion is not None
    value = pair.criterion.raw([context])["rank_mimicking"]
    assert float(value.detach()) == pytest.approx(naive_rank_mimicking(pair, context), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssdlite", "atss", "gfl"])
def test_ranking_by_box_scores_each_candidate_by_its_overlap(name: str) -> None:
    pair = Distiller(student(name), teacher(name), rank_mimicking(rank_by="localization")).train()
    context = context_of(pair, name)
    assert pair.criterion is not None and context.student.assignment is not None
    given = pair.criterion.terms[0].view(context, lambda features: features)
    position = 0
    for image, target in enumerate(context.targets):
        for anchor in torch.where(context.student.assignment[image] >= 0)[0].tolist():
            truth = target["boxes"][context.student.assignment[image, anchor]][None]
            for side, seen in (("student_scores", context.student), ("teacher_scores", context.teacher)):
                assert seen.boxes is not None
                expected = box_iou(seen.boxes[image, anchor][None], truth)[0, 0]
                torch.testing.assert_close(given[side][position], expected, rtol=1e-4, atol=1e-6)
            position += 1
    assert position == len(given["student_scores"]) > 0


def test_fcos_scores_are_those_that_torchvision_sorts_by() -> None:
    pair = Distiller(student("fcos"), teacher("fcos"), rank_mimicking()).train()
    context = context_of(pair, "fcos")
    assert pair.criterion is not None
    given = pair.criterion.terms[0].view(context, lambda features: features)
    seen = context.student
    assert seen.class_logits is not None and seen.quality_logits is not None and seen.assignment is not None
    library = torch.sqrt(seen.class_logits.sigmoid() * seen.quality_logits.sigmoid()[..., None])
    image, anchor = torch.where(seen.assignment >= 0)
    targets: list[Target] = list(context.targets)
    labels = torch.stack([targets[i]["labels"][seen.assignment[i, a]] for i, a in zip(image, anchor, strict=True)])
    torch.testing.assert_close(given["student_scores"], library[image, anchor, labels])


def test_logits_mode_ignores_a_shift_of_one_sides_scores() -> None:
    pair = Distiller(student(), teacher(), rank_mimicking(score="logit")).train()
    assert pair.teacher is not None and pair.criterion is not None
    first = pair.criterion.raw([context_of(pair, "retinanet")])["rank_mimicking"]
    with torch.no_grad():
        pair.teacher.model.head.classification_head.cls_logits.bias += 1.0
    second = pair.criterion.raw([context_of(pair, "retinanet")])["rank_mimicking"]
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("candidates", ["positive", "all"])
def test_soft_labels_of_faster_rcnn_come_from_the_students_regions(candidates: str) -> None:
    shuffled = permuted_box_head(teacher("faster_rcnn"))
    terms = soft_labels(on="regions", candidates=candidates)  # type: ignore[arg-type]
    pair = Distiller(student("faster_rcnn"), shuffled, terms).train()
    context = context_of(pair, "faster_rcnn")
    given = terms[0].view(context, lambda features: features)
    labels = torch.cat(context.student.proposal_labels or [])
    chosen = labels > 0 if candidates == "positive" else labels >= 0
    assert context.student.proposal_logits is not None
    torch.testing.assert_close(given["student_logits"], context.student.proposal_logits[chosen])
    torch.testing.assert_close(given["teacher_logits"], bare_box_head(pair, context)[chosen][:, [0, 2, 3, 1]])
    assert given["activation"] == "softmax" and float(given["normaliser"]) == float(chosen.sum())


def permuted_box_head(detector):
    """Class names in another order; the weights stay, so that column 1 now means the last class."""
    detector.class_names = ("__background__", CLASSES[2], CLASSES[0], CLASSES[1])
    return detector


def bare_box_head(pair: Distiller, context: StepContext) -> torch.Tensor:
    """The teacher's class logits by torchvision's own parts, with the true image sizes."""
    assert pair.teacher is not None and context.student.proposals is not None
    model, given = pair.teacher.model, batch("faster_rcnn")
    with torch.no_grad():
        from kdet.detectors.batching import normalised

        maps = model.backbone(normalised(model, given).tensors)
        pooled = model.roi_heads.box_roi_pool(maps, context.student.proposals, given.sizes_hw)
        return model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))[0]


def test_regions_need_a_teacher_that_scores_regions() -> None:
    with pytest.raises(InputError, match=r"soft_labels on regions .* retinanet does not"):
        Distiller(student("faster_rcnn"), teacher("retinanet"), soft_labels(on="regions"))


def test_a_batch_without_objects_gives_zero_and_a_graph() -> None:
    pair = Distiller(student(), teacher(), rank_mimicking() + soft_labels()).train()
    images = [torch.rand(3, 64, 64)]
    report = pair(images, [Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))])
    assert report.parts["rank_mimicking"].detach() == 0 and report.parts["soft_labels"].detach() == 0
    report.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in pair.parameters() if p.requires_grad)
