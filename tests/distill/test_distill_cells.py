"""Where two models lay other anchors, rank mimicking compares cells: the best score of each cell, by plain loops."""

from dataclasses import replace

import pytest
import torch
from distill_cases import batch, permuted, student, teacher
from test_distill_candidates import column, context_of, divergence, one_score
from torchvision.models.detection.anchor_utils import AnchorGenerator

from kdet.detectors import wrap
from kdet.distill import METHODS, Distiller, TeacherConfig
from kdet.distill.methods import ld, prediction_guided, rank_mimicking, soft_labels
from kdet.distill.views.base import GuidedFeatures, StepContext
from kdet.errors import InputError
from kdet.types import Detector, Observation


def cell_of_each_anchor(seen: Observation, strides: list[int]) -> list[tuple[int, int]]:
    """(stride, cell) by anchor: level by level, row by row, then the anchors of the cell."""
    return [
        (stride, cell)
        for (h, w), per_cell, stride in zip(seen.cells_hw, seen.anchors_per_cell, strides, strict=True)
        for cell in range(h * w)
        for _ in range(per_cell)
    ]


def naive(pair: Distiller, context: StepContext) -> float:
    """The paper's sum over objects, with the cells of the student's positives as candidates."""
    assert pair.teacher is not None and context.student.assignment is not None
    ours = cell_of_each_anchor(context.student, [level.stride for level in pair.student.levels])
    theirs = cell_of_each_anchor(context.teacher, [level.stride for level in pair.teacher.levels])
    members = [
        {cell: [a for a, own in enumerate(cells) if own == cell] for cell in set(ours) & set(theirs)}
        for cells in (ours, theirs)
    ]
    losses = []
    for image, target in enumerate(context.targets):
        for index, label in enumerate(target["labels"].tolist()):
            assigned = context.student.assignment[image].tolist()
            cells = {ours[a] for a, k in enumerate(assigned) if k == index} & set(theirs)
            if not cells:
                continue
            wanted = (label, column(pair.teacher.class_names, label))
            scores = [
                [max(one_score(seen, image, a, k) for a in own[cell]) for cell in sorted(cells)]
                for seen, own, k in zip((context.student, context.teacher), members, wanted, strict=True)
            ]
            losses.append(divergence(scores[1], scores[0]))
    assert losses
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("small", "large"), [("fcos", "retinanet"), ("retinanet", "fcos")])
def test_other_anchors_are_ranked_by_the_best_of_each_cell(small: str, large: str) -> None:
    pair = Distiller(student(small), permuted(teacher(large), (1, 2, 0)), rank_mimicking(1.0)).train()
    context = context_of(pair, small)
    assert pair.criterion is not None
    value = pair.criterion.raw([context])["rank_mimicking"]
    assert float(value.detach()) == pytest.approx(naive(pair, context), rel=1e-3, abs=1e-6)
    assert value.detach() > 0
    value.backward()
    assert pair.model.head.classification_head.cls_logits.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", "gfl"])
def test_anchors_of_another_size_are_ranked_by_the_best_of_each_cell(name: str) -> None:
    """As many a cell, but half as large: anchor i of the one is not anchor i of the other."""
    pair = Distiller(student(name, anchor_scale=0.5), teacher(name, anchor_scale=1.0), rank_mimicking(1.0)).train()
    context = context_of(pair, name)
    assert pair.criterion is not None
    assert context.student.anchors_per_cell == context.teacher.anchors_per_cell
    value = float(pair.criterion.raw([context])["rank_mimicking"].detach())
    assert value == pytest.approx(naive(pair, context), rel=1e-3, abs=1e-6)
    if name == "retinanet":  # where a cell has one anchor, it is the best
        same = Distiller(student(name), teacher(name), rank_mimicking(1.0)).train()
        same.load_state_dict(pair.state_dict())
        assert same.criterion is not None and same.teacher is not None and pair.teacher is not None
        same.teacher.model.load_state_dict(pair.teacher.model.state_dict())
        by_anchor = float(same.criterion.raw([context_of(same, name)])["rank_mimicking"].detach())
        assert abs(by_anchor - value) > 1e-3 * value


@pytest.mark.parametrize("method", ["soft_labels", "dist"])
@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", "gfl"])
def test_what_compares_anchor_by_anchor_is_refused_under_other_sizes_before_training(name: str, method: str) -> None:
    terms = METHODS[method].terms
    assert Distiller(student(name), teacher(name), terms()).train()(batch(name)).parts[method].isfinite()
    with pytest.raises(InputError, match=rf"{method} compares anchor by anchor: at stride 8 .*`anchor_scale`"):
        Distiller(student(name, anchor_scale=0.5), teacher(name, anchor_scale=1.0), terms())


def test_the_refusal_says_both_sizes_in_the_students_pixels() -> None:
    with pytest.raises(
        InputError, match=r"at stride 8 the student has 1 a cell, of 32×32 pixels, the teacher 1 .*64×64"
    ):
        Distiller(student("atss", anchor_scale=0.5), teacher("atss", anchor_scale=1.0), soft_labels())
    with pytest.raises(
        InputError, match=r"student has cells of 8, 16, 32, 64, 128 pixels, the teacher of 4, 8, 16, 32"
    ):
        Distiller(student(), teachers=[TeacherConfig(teacher=teacher(), terms=soft_labels(), scale=2.0)])


def in_another_order() -> Detector:
    """A RetinaNet as torchvision builds it, whose anchors are the student's with the ratios the other way round."""
    own = teacher()
    sizes = own.model.anchor_generator.sizes
    own.model.anchor_generator = AnchorGenerator(sizes, ((2.0, 1.0, 0.5),) * len(sizes))
    return wrap(own.model, own.class_names)


def test_the_same_anchors_in_another_order_are_other_anchors() -> None:
    with pytest.raises(InputError, match="soft_labels compares anchor by anchor"):
        Distiller(student(), in_another_order(), soft_labels())
    pair = Distiller(student(), in_another_order(), rank_mimicking(1.0)).train()
    context = context_of(pair, "retinanet")
    assert pair.criterion is not None
    value = pair.criterion.raw([context])["rank_mimicking"]
    assert float(value.detach()) == pytest.approx(naive(pair, context), rel=1e-3, abs=1e-6)


def test_guided_maps_of_other_anchors_are_the_mean_of_a_cell() -> None:
    """And of the same ones they are compared one by one."""
    for scale, channels in ((0.5, 9 * 3), (1.0, 3)):
        pair = Distiller(student(), teacher(anchor_scale=scale), prediction_guided()).train()
        context = context_of(pair, "retinanet")
        given = GuidedFeatures()(context, lambda maps: maps)
        assert {m.shape[1] for m in given["student_logits"] + given["teacher_logits"]} == {channels}
        assert context.teacher.class_logits is not None
        own = context.teacher.level_logits(context.teacher.class_logits[..., 1:].float())[0]
        torch.testing.assert_close(
            given["teacher_logits"][0], own.unflatten(1, (9, 3)).mean(1) if channels == 3 else own
        )


def test_distances_to_the_edges_do_not_depend_on_the_size_of_an_anchor() -> None:
    pair = Distiller(student("gfl", anchor_scale=0.5), teacher("gfl", anchor_scale=1.0), ld()).train()
    assert pair(batch("gfl")).parts["ld"].detach() > 0


def test_rankings_without_a_common_cell_are_refused_before_training() -> None:
    paired = TeacherConfig(teacher=teacher(), terms=rank_mimicking(), scale=1.5)
    with pytest.raises(InputError, match=r"rank_mimicking needs common cells.*8 against .*use feature terms"):
        Distiller(student(), teachers=[paired])


def test_grids_that_differ_at_a_stride_are_refused() -> None:
    pair = Distiller(student("fcos"), teacher("retinanet"), rank_mimicking()).train()
    context = context_of(pair, "fcos")
    finer = replace(context.teacher, cells_hw=tuple((2 * h, 2 * w) for h, w in context.teacher.cells_hw))
    assert pair.criterion is not None
    with pytest.raises(InputError, match=r"common cells: at stride 8 .*use feature terms"):
        pair.criterion.raw([replace(context, teacher=finer)])


def test_levels_that_are_resized_are_left_out_of_rankings_and_the_common_ones_count() -> None:
    pair = Distiller(student("ssdlite"), teacher("fcos"), rank_mimicking()).train()
    assert [level.exact for level in pair.pairing.levels].count(False) == 1
    given = batch("ssdlite")
    # Default boxes of two shared levels answer for it; a larger one has those of a single cell, which have no order.
    middling = [{"boxes": torch.tensor([[30.0, 30.0, 60.0, 60.0]]), "labels": torch.tensor([1])} for _ in given.targets]
    value = pair(replace(given, targets=middling)).parts["rank_mimicking"]
    assert value.detach() > 0


def test_soft_labels_of_other_anchors_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"soft_labels compares anchor by anchor: at stride 8 .*rank_mimicking or feature terms"
    ):
        Distiller(student("fcos"), teacher("retinanet"), soft_labels())
