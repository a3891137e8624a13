"""Where two models lay other anchors, rank mimicking compares cells: the best score of each cell, by plain loops."""

from dataclasses import replace

import pytest
import torch
from distill_cases import batch, permuted, student, teacher
from test_distill_candidates import column, divergence, one_score, sight_of

from kdet.distill import Distiller
from kdet.distill.methods import rank_mimicking, soft_labels
from kdet.distill.views import Sight
from kdet.errors import InputError
from kdet.types import Observation


def cell_of_each_anchor(seen: Observation, strides: list[int]) -> list[tuple[int, int]]:
    """(stride, cell) by anchor: level by level, row by row, then the anchors of the cell."""
    return [
        (stride, cell)
        for (h, w), per_cell, stride in zip(seen.cells_hw, seen.anchors_per_cell, strides, strict=True)
        for cell in range(h * w)
        for _ in range(per_cell)
    ]


def naive(pair: Distiller, sight: Sight) -> float:
    """The paper's sum over objects, with the cells of the student's positives as candidates."""
    assert pair.teacher is not None and sight.student.assignment is not None
    ours = cell_of_each_anchor(sight.student, [level.stride for level in pair.student.levels])
    theirs = cell_of_each_anchor(sight.teacher, [level.stride for level in pair.teacher.levels])
    members = [
        {cell: [a for a, own in enumerate(cells) if own == cell] for cell in set(ours) & set(theirs)}
        for cells in (ours, theirs)
    ]
    losses = []
    for image, target in enumerate(sight.targets):
        for index, label in enumerate(target["labels"].tolist()):
            assigned = sight.student.assignment[image].tolist()
            cells = {ours[a] for a, k in enumerate(assigned) if k == index} & set(theirs)
            if not cells:
                continue
            wanted = (label, column(pair.teacher.class_names, label))
            scores = [
                [max(one_score(seen, image, a, k) for a in own[cell]) for cell in sorted(cells)]
                for seen, own, k in zip((sight.student, sight.teacher), members, wanted, strict=True)
            ]
            losses.append(divergence(scores[1], scores[0]))
    assert losses
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("small", "large"), [("fcos", "retinanet"), ("retinanet", "fcos")])
def test_other_anchors_are_ranked_by_the_best_of_each_cell(small: str, large: str) -> None:
    pair = Distiller(student(small), permuted(teacher(large), (1, 2, 0)), rank_mimicking(1.0)).train()
    sight = sight_of(pair, small)
    assert pair.criterion is not None
    value = pair.criterion.raw([sight])["rank_mimicking"]
    assert float(value.detach()) == pytest.approx(naive(pair, sight), rel=1e-3, abs=1e-6)
    assert value.detach() > 0
    value.backward()
    assert pair.model.head.classification_head.cls_logits.weight.grad.abs().max() > 0


def test_grids_that_differ_at_a_stride_are_refused() -> None:
    pair = Distiller(student("fcos"), teacher("retinanet"), rank_mimicking()).train()
    sight = sight_of(pair, "fcos")
    finer = replace(sight.teacher, cells_hw=tuple((2 * h, 2 * w) for h, w in sight.teacher.cells_hw))
    assert pair.criterion is not None
    with pytest.raises(InputError, match=r"common cells: at stride 8 .*use feature terms"):
        pair.criterion.raw([replace(sight, teacher=finer)])


def test_levels_that_are_resized_are_left_out_of_rankings_and_the_common_ones_count() -> None:
    pair = Distiller(student("ssdlite"), teacher("fcos"), rank_mimicking()).train()
    assert [level.exact for level in pair.pairing.levels].count(False) == 1
    given = batch("ssdlite")
    large = [{"boxes": torch.tensor([[8.0, 8.0, 80.0, 80.0]]), "labels": torch.tensor([1])} for _ in given.targets]
    value = pair(replace(given, targets=large)).parts["rank_mimicking"]
    assert value.detach() > 0


def test_soft_labels_of_other_anchors_are_refused() -> None:
    pair = Distiller(student("fcos"), teacher("retinanet"), soft_labels())
    with pytest.raises(InputError, match=r"soft labels compare anchor by anchor.*rank_mimicking or feature terms"):
        pair(batch("fcos"))
