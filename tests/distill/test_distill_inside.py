"""Maps of teacher and student for a page to draw."""

import copy

import pytest
import torch

from fakes import CLASSES, batch_for, tiny
from kdet import methods
from kdet.distill import Distiller
from kdet.distill.feature_maps import level_maps
from kdet.types import Batch, Detector


def maps(student: Detector, teacher: Detector, terms: list, batch: Batch | None = None):
    distiller = Distiller(student, teacher, terms)
    student.model.eval()
    return level_maps(distiller, student, batch or batch_for(student))


def test_a_copy_is_alike_everywhere() -> None:
    student = tiny()
    teacher = copy.copy(student)
    teacher.model = copy.deepcopy(student.model)
    found = maps(student, teacher, methods.structural())
    assert [level.stride for level in found] == [level.stride for level in student.levels]
    for level in found:
        assert level.similarity is not None
        torch.testing.assert_close(level.student, level.teacher)
        torch.testing.assert_close(level.similarity, torch.ones_like(level.similarity), atol=1e-3, rtol=0)


def test_other_weights_are_less_alike_and_padding_is_cut_off() -> None:
    student, teacher = tiny(), tiny(seed=1, width=0.5)
    batch = batch_for(student)
    height, width = batch.sizes_hw[0]
    finest = maps(student, teacher, methods.structural(), batch)[0]
    assert finest.student.shape == (-(-height // 8), -(-width // 8)) == finest.teacher.shape
    assert batch.images.shape[-1] // 8 > finest.student.shape[1]  # there was padding to cut off
    assert finest.similarity is not None and float(finest.similarity.mean()) < 0.9


def test_the_student_is_seen_through_its_adapter() -> None:
    student, teacher = tiny(), tiny(seed=1, fpn_channels=64)
    with_adapter = maps(student, teacher, methods.structural())
    assert all(level.similarity is not None for level in with_adapter)
    without = maps(student, teacher, methods.rank_mimicking())
    assert all(level.similarity is None for level in without)
    assert not torch.allclose(with_adapter[0].student, without[0].student)


@pytest.mark.parametrize("family", ["fcos", "faster_rcnn"])
def test_other_families_and_values_that_can_be_drawn(family: str) -> None:
    student, teacher = tiny(family, classes=CLASSES), tiny(family, classes=CLASSES, seed=1)
    for level in maps(student, teacher, methods.structural()):
        for values in (level.student, level.teacher, level.similarity):
            assert values is not None and values.ndim == 2 and bool(torch.isfinite(values).all())
        assert float(level.student.min()) >= 0
