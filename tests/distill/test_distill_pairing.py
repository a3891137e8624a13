"""Levels are paired by stride, classes by name; never by position."""

import pytest
import torch
from distill_cases import batch, permuted, student, teacher

from fakes import CLASSES, batch_for, tiny
from kdet.distill import METHODS, Distiller
from kdet.distill.methods import soft_labels, structural
from kdet.distill.pairing import pair
from kdet.errors import InputError
from kdet.types import Level

NAMES = ("__background__", *CLASSES)


def levels(*strides: int, channels: int = 8) -> list[Level]:
    return [Level(f"s{stride}", channels, stride) for stride in strides]


def test_levels_meet_at_equal_strides_and_the_rest_is_told() -> None:
    found = pair(levels(8, 16, 32, 64, 128), levels(4, 8, 16, 32, 64, channels=16), NAMES, NAMES)
    assert [(p.stride, p.student, p.teacher) for p in found.levels] == [(8, 0, 1), (16, 1, 2), (32, 2, 3), (64, 3, 4)]
    assert {(p.student_channels, p.teacher_channels) for p in found.levels} == {(8, 16)}
    assert found.left_out == ("student stride 128", "teacher stride 4")
    text = found.describe()
    assert len(text) == 5 and "without a partner: student stride 128, teacher stride 4" in text


def test_no_common_stride_is_refused_with_both_lists() -> None:
    with pytest.raises(InputError, match=r"student has strides \[8\], the teacher \[16\]"):
        pair(levels(8), levels(16), NAMES, NAMES)


@pytest.mark.parametrize(
    ("small", "large", "strides"),
    [
        ("retinanet", "faster_rcnn", [8, 16, 32, 64]),
        ("faster_rcnn", "retinanet", [8, 16, 32, 64]),
        ("ssdlite", "retinanet", [16, 32, 64, 128]),
        ("retinanet", "fcos", [8, 16, 32, 64, 128]),
    ],
)
def test_families_distil_into_each_other_through_their_features(small: str, large: str, strides: list[int]) -> None:
    detector = student(small)
    pair_of = Distiller(detector, teacher(large), structural()).train()
    assert pair_of.pairing is not None
    assert [p.stride for p in pair_of.pairing.levels] == strides
    value = pair_of(batch_for(detector)).parts["structural"]
    assert torch.isfinite(value) and value.detach() > 0
    value.backward()


def test_the_teachers_maps_are_brought_to_the_students_size() -> None:
    from kdet.distill.views import Features

    pair_of = Distiller(student(), teacher(), structural())
    seen = pair_of.student.observe(batch(), frozenset())
    sight = pair_of.sights(batch(), seen)[0]
    assert sight.teacher.features is not None
    sight.teacher.features[0] = sight.teacher.features[0][:, :, ::2, ::2]
    inputs = Features()(sight, lambda features: features)
    assert [f.shape[2:] for f in inputs["student"]] == [f.shape[2:] for f in inputs["teacher"]]


@pytest.mark.parametrize("method", ["rank_mimicking", "prediction_guided", "soft_labels"])
@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssdlite", "atss", "gfl"])
def test_a_teacher_with_its_classes_in_another_order_teaches_exactly_the_same(name: str, method: str) -> None:
    plain = teacher(name)
    shuffled = permuted(plain, (2, 0, 1))
    first = Distiller(student(name), plain, METHODS[method].terms()).train()
    second = Distiller(student(name), shuffled, METHODS[method].terms()).train()
    second.load_state_dict(first.state_dict())
    assert second.pairing is not None and second.pairing.classes.reordered
    assert "classes matched by name" in second.pairing.describe()[-1]
    one, other = first(batch(name)).parts[method], second(batch(name)).parts[method]
    assert one.detach() > 0
    torch.testing.assert_close(one, other)


def test_a_permuted_teacher_read_by_position_would_differ() -> None:
    plain = teacher()
    shuffled = permuted(plain, (2, 0, 1))
    mislabelled = tiny(seed=2, width=0.5, fpn_channels=64)
    mislabelled.model.load_state_dict(shuffled.model.state_dict())
    values = [
        Distiller(student(), t, soft_labels()).train()(batch()).parts["soft_labels"] for t in (plain, mislabelled)
    ]
    assert not torch.isclose(*values, rtol=1e-3)


def test_other_class_names_are_refused_and_name_both_sides() -> None:
    other = tiny(classes=("circle", "square", "star"), seed=2)
    with pytest.raises(
        InputError, match=r"only the student has \['triangle'\], only the teacher has \['star'\]"
    ) as caught:
        Distiller(student(), other, structural())
    assert "class_map" in str(caught.value)


def test_a_class_map_renames_the_teachers_classes() -> None:
    other = tiny(classes=("star", "circle", "square"), seed=2)
    pair_of = Distiller(student(), other, soft_labels(), class_map={"star": "triangle"})
    assert pair_of.pairing is not None
    assert pair_of.pairing.classes.names == CLASSES
    assert pair_of.pairing.classes.teacher == (2, 3, 1)
    with pytest.raises(InputError, match=r"renames \['moon'\]"):
        Distiller(student(), tiny(seed=2), soft_labels(), class_map={"moon": "circle"})


def test_unused_columns_of_a_teacher_are_left_out() -> None:
    padded = tiny(classes=("__background__", "N/A", "circle", "N/A", "square", "triangle"), seed=2)
    pair_of = Distiller(student(), padded, METHODS["prediction_guided"].terms() + soft_labels()).train()
    assert pair_of.pairing is not None and pair_of.pairing.classes.teacher == (2, 4, 5)
    assert torch.isfinite(pair_of(batch()).total)
