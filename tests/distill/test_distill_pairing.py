"""Levels are paired by stride, classes by name; never by position."""

from dataclasses import replace

import pytest
import torch
from distill_cases import batch, permuted, student, teacher

from fakes import CLASSES, batch_for, tiny
from kdet.distill import METHODS, Distiller
from kdet.distill.methods import soft_labels, structural
from kdet.distill.pairing import pair
from kdet.errors import InputError
from kdet.types import Level, Need
from suites import quick

NAMES = ("__background__", *CLASSES)


def levels(*strides: int, channels: int = 8) -> list[Level]:
    return [Level(f"s{stride}", channels, stride) for stride in strides]


def test_levels_meet_at_equal_strides_and_the_rest_is_told() -> None:
    found = pair(levels(8, 16, 32, 64, 128), levels(4, 8, 16, 32, 64, channels=16), NAMES, NAMES)
    exact = [(p.stride, p.student, p.teacher) for p in found.levels if p.exact]
    assert exact == [(8, 0, 1), (16, 1, 2), (32, 2, 3), (64, 3, 4)]
    assert {(p.student_channels, p.teacher_channels) for p in found.levels} == {(8, 16)}
    assert found.left_out == ("teacher stride 4",)
    text = found.describe()
    assert "stride  128: student 8 channels ← teacher 16 channels at stride 64, resized" in text
    assert len(text) == 6 and text[-1] == "without a partner: teacher stride 4"


def test_levels_without_resizing_are_the_common_ones() -> None:
    found = pair(levels(8, 16, 32), levels(16, 32, 64), NAMES, NAMES, resize=False)
    assert [p.stride for p in found.levels] == [16, 32]
    assert found.left_out == ("student stride 8", "teacher stride 64")


def test_no_common_stride_without_resizing_is_refused_with_both_lists_and_the_way_out() -> None:
    with pytest.raises(InputError, match=r"student has strides \[8\], the teacher \[16\]; set .*resize: true"):
        pair(levels(8), levels(16), NAMES, NAMES, resize=False)


def test_a_stride_of_fourteen_is_near_to_eight_and_sixteen() -> None:
    found = pair(levels(4, 8, 16, 32), levels(14), NAMES, ())
    assert [(p.stride, p.teacher_stride) for p in found.levels] == [(8, 14), (16, 14)]
    assert found.left_out == ("student stride 4", "student stride 32")


def test_where_all_are_far_the_nearest_pair_is_taken() -> None:
    found = pair(levels(8, 16), levels(64), NAMES, NAMES)
    assert [(p.stride, p.teacher_stride) for p in found.levels] == [(16, 64)]


def test_a_teacher_that_sees_twice_the_pixels_is_a_level_ahead() -> None:
    found = pair(levels(8, 16, 32), levels(8, 16, 32, 64), NAMES, NAMES, teacher_scale=2)
    assert [(p.stride, p.teacher, p.exact) for p in found.levels] == [(8, 1, True), (16, 2, True), (32, 3, True)]
    assert found.left_out == ("teacher stride 4",)


@pytest.mark.parametrize(
    ("small", "large", "strides"),
    [
        ("retinanet", "faster_rcnn", [8, 16, 32, 64, 128]),
        ("faster_rcnn", "retinanet", [4, 8, 16, 32, 64]),
        ("ssdlite", "retinanet", [16, 32, 64, 128, 256]),
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
    from kdet.distill.views.base import Features

    pair_of = Distiller(student(), teacher(), structural())
    context = pair_of.observe_pair(batch(), only=frozenset({Need.FEATURES}))[1][0]
    assert context.teacher.features is not None
    context.teacher.features[0] = context.teacher.features[0][:, :, ::2, ::2]
    inputs = Features()(context, lambda features: features)
    assert [f.shape[2:] for f in inputs["student"]] == [f.shape[2:] for f in inputs["teacher"]]


@pytest.mark.parametrize("method", ["rank_mimicking", "prediction_guided", "soft_labels", "bckd"])
@pytest.mark.parametrize(
    "name", quick(["retinanet", "fcos", "ssdlite", "atss", "gfl"], lambda name: name == "retinanet")
)
def test_a_teacher_with_its_classes_in_another_order_teaches_exactly_the_same(name: str, method: str) -> None:
    plain = teacher(name)
    shuffled = permuted(plain, (2, 0, 1))
    first = Distiller(student(name), plain, METHODS[method].terms(1.0)).train()
    second = Distiller(student(name), shuffled, METHODS[method].terms(1.0)).train()
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


def test_classes_of_one_side_alone_are_told_with_a_hint_at_other_spellings() -> None:
    other = tiny(classes=("circle", "square", "triangles"), seed=2)
    pair_of = Distiller(student(), other, structural() + soft_labels())
    assert pair_of.pairing is not None
    assert pair_of.pairing.classes.names == ("circle", "square")
    lines = pair_of.pairing.describe()
    assert any("does not know triangle" in line and "class_map: {triangles: triangle}" in line for line in lines)
    assert any("the student does not have the teacher's triangles" in line for line in lines)


def test_features_teach_without_a_shared_class_and_class_scores_do_not() -> None:
    other = tiny(classes=("star", "moon"), seed=2)
    pair_of = Distiller(student(), other, structural()).train()
    assert pair_of(batch()).parts["structural"].detach() > 0
    with pytest.raises(InputError, match=r"share no class: the student has circle, .*; the teacher has star, moon"):
        Distiller(student(), tiny(classes=("star", "moon"), seed=2), METHODS["rank_mimicking"].terms())


@pytest.mark.parametrize("method", ["rank_mimicking", "soft_labels", "prediction_guided", "crosskd"])
def test_a_teacher_of_more_classes_teaches_as_one_of_the_shared_alone(method: str) -> None:
    # The larger teacher is the smaller one with two more columns; sigmoid columns do not know of each other.
    plain = teacher()
    larger = teacher(classes=(*CLASSES, "star", "moon"))
    state = plain.model.state_dict()
    for name, parameter in larger.model.state_dict().items():
        if "cls_logits." in name:
            grouped = parameter.reshape(-1, 1 + len(CLASSES) + 2, *parameter.shape[1:])
            grouped[:, : 1 + len(CLASSES)] = state[name].reshape(-1, 1 + len(CLASSES), *parameter.shape[1:])
        else:
            parameter.copy_(state[name])
    values = []
    for one in (plain, larger):
        pair_of = Distiller(student(), one, METHODS[method].terms(1.0)).train()
        torch.manual_seed(0)
        for parameter in pair_of.criterion.parameters():
            torch.nn.init.normal_(parameter)
        values.append(pair_of(batch()).parts[method].detach())
    assert values[0] > 0
    torch.testing.assert_close(*values)


def test_objects_that_the_teacher_does_not_know_are_left_out_of_rankings() -> None:
    few = tiny(classes=("circle",), seed=2, width=0.5, fpn_channels=64)
    pair_of = Distiller(student(), few, METHODS["rank_mimicking"].terms()).train()
    given = batch()
    assert given.targets is not None
    others = [target["labels"].clone().fill_(2) for target in given.targets]  # all squares
    squares = [{"boxes": t["boxes"], "labels": labels} for t, labels in zip(given.targets, others, strict=True)]
    value = pair_of(replace(given, targets=squares)).parts["rank_mimicking"]
    assert value.detach() == 0
    value.backward()
    circles = [{"boxes": t["boxes"], "labels": torch.ones_like(t["labels"])} for t in given.targets]
    assert pair_of(replace(given, targets=circles)).parts["rank_mimicking"].detach() > 0


def test_two_teacher_classes_under_one_name_are_refused() -> None:
    other = tiny(classes=("car", "truck", "circle"), seed=2)
    with pytest.raises(InputError, match="two of the teacher's classes are called 'square'"):
        Distiller(student(), other, structural(), class_map={"car": "square", "truck": "square"})
    with pytest.raises(InputError, match=r"leads to \['vehicle'\], which the student does not have"):
        Distiller(student(), other, structural(), class_map={"car": "vehicle"})


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
