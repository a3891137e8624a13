"""Several teachers, and teachers that see larger images."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from distill_cases import batch, student, teacher

from fakes import CLASSES, batch_for, tiny
from kdet import wrap
from kdet.distill import Distiller, TeacherConfig, prove_it_acts
from kdet.distill.adapters import Adapter, NoAdapter
from kdet.distill.methods import l2, rank_mimicking, structural
from kdet.distill.preflight.proof import examine
from kdet.distill.views.base import Features
from kdet.errors import InputError
from kdet.ops.canvas import teacher_canvas
from kdet.types import Batch, Detector
from yolo_fakes import yolo


def two_teachers() -> Distiller:
    other = tiny("fcos", seed=3, width=0.5, fpn_channels=64)
    paired_teachers = [
        TeacherConfig(teacher=teacher(), terms=structural(4.0) + rank_mimicking(4.0), name="big"),
        TeacherConfig(teacher=other, terms=structural(2.0), name="other"),
    ]
    return Distiller(student(), teachers=paired_teachers).train()  # type: ignore[return-value]


def test_each_teacher_has_its_own_terms_under_its_own_name() -> None:
    pair = two_teachers()
    parts = pair(batch()).parts
    assert [name for name in parts if not name.startswith("task")] == [
        "big/structural",
        "big/rank_mimicking",
        "other/structural",
    ]
    alone = Distiller(student(), teachers=list(_again(pair)[1:])).train()
    alone.load_state_dict({k: v for k, v in pair.state_dict().items() if "big" not in k}, strict=False)
    torch.testing.assert_close(alone(batch()).parts["other/structural"], parts["other/structural"])


def _again(pair: Distiller) -> list[TeacherConfig]:
    return [
        TeacherConfig(
            teacher=taught.teacher, terms=[replace(t, name=t.name.split("/")[1]) for t in taught.terms], name=name
        )
        for taught, name in zip(pair.paired_teachers, ("big", "other"), strict=True)
    ]


def test_no_teacher_is_in_the_state_and_all_are_watched() -> None:
    pair = two_teachers()
    count = sum(1 for _ in pair.model.parameters()) + sum(1 for _ in pair.criterion.parameters())
    assert len(list(pair.parameters())) == count
    assert not examine(pair, batch()).all_faults
    with torch.no_grad():
        next(pair.paired_teachers[1].teacher.model.parameters()).requires_grad_(True)
    assert any("requires a gradient" in fault for fault in examine(pair, batch()).all_faults)


def test_auto_terms_of_all_teachers_divide_the_ratio() -> None:
    paired_teachers = [
        TeacherConfig(teacher=teacher(), terms=[replace(t, strides=(8,)) for t in l2("auto")], name="one"),
        TeacherConfig(teacher=tiny(seed=5), terms=[replace(t, strides=(8,)) for t in l2("auto")], name="two"),
    ]
    pair = Distiller(student(), teachers=paired_teachers).train()
    shares = pair.criterion.balance.wanted
    assert shares == {"one/l2": 0.5, "two/l2": 0.5}


def test_two_terms_of_one_name_are_refused() -> None:
    paired_teachers = [
        TeacherConfig(teacher=teacher(), terms=structural()),
        TeacherConfig(teacher=tiny(seed=5), terms=structural()),
    ]
    with pytest.raises(InputError, match="two terms are called 'structural'"):
        Distiller(student(), teachers=paired_teachers)


def larger(given: Batch, scale: float) -> Batch:
    height, width = given.images.shape[-2:]
    images = teacher_canvas(list(given.images), [(height, width)] * len(given.images), (height, width), scale)
    return replace(given, teacher_images=images)


@pytest.mark.parametrize("scale", [2.0, 1.5])
def test_a_teacher_of_a_larger_size_is_compared_on_the_students_cells(scale: float) -> None:
    paired = TeacherConfig(teacher=teacher(), terms=structural(), scale=scale)
    pair = Distiller(student(), teachers=[paired]).train()
    given = larger(batch(), scale)
    context = pair.observe_pair(given)[1][0]
    assert context.teacher.input_size_hw == tuple(given.teacher_images.shape[-2:])
    inputs = Features()(context, pair.criterion.adapters["structural"])
    assert [f.shape for f in inputs["student"]] == [f.shape for f in inputs["teacher"]]
    if scale == 2:
        assert all(level.exact for level in pair.pairing.levels[:4])
    prove_it_acts(pair, given)


def own_widths(**options: Any) -> Distiller:
    def detector() -> Detector:
        return wrap(yolo(num_classes=4), ("__background__", *CLASSES))

    paired = TeacherConfig(teacher=detector(), terms=structural() + rank_mimicking(), scale=2.0, **options)
    student = detector()
    with torch.no_grad():
        next(student.model.parameters()).mul_(-0.5)
    return Distiller(student, teachers=[paired]).train()


def places(pair: Distiller, term: str) -> list[tuple[int, float, int]]:
    """Stride of the student's level, of the teacher's in the student's pixels, and the place of the latter."""
    return [(level.stride, level.teacher_stride, level.teacher) for level in pair.criterion.pairings[term].levels]


def test_levels_of_their_own_width_are_compared_by_place_and_their_predictions_by_cells() -> None:
    """At twice the size the teacher's levels of stride 8 and 16 have cells of 4 and 8 of the student's pixels."""
    pair = own_widths()
    assert places(pair, "structural") == [(8, 4.0, 0), (16, 8.0, 1)]
    assert isinstance(pair.criterion.adapters["structural"], NoAdapter)
    assert (8, 8.0, 1) in places(pair, "rank_mimicking")
    assert pair.paired_teachers[0].describe()[1].endswith("at stride 4, resized")
    by_stride = own_widths(pair_levels="stride")
    assert places(by_stride, "structural") == places(pair, "rank_mimicking")
    assert isinstance(by_stride.criterion.adapters["structural"], Adapter)
    assert pair(larger(batch_for(pair.student), 2.0), measure=True).gradients["structural"].ratio > 0


def test_levels_of_one_width_stand_for_each_other_and_are_compared_by_stride_unless_told() -> None:
    def made(**options: Any) -> Distiller:
        paired = TeacherConfig(teacher=teacher(), terms=structural(), scale=2.0, **options)
        return Distiller(student(), teachers=[paired]).train()

    assert places(made(), "structural")[:2] == [(8, 8.0, 1), (16, 16.0, 2)]
    assert places(made(pair_levels="place"), "structural")[:2] == [(8, 4.0, 0), (16, 8.0, 1)]


def test_place_needs_the_same_strides() -> None:
    with pytest.raises(InputError, match=r"place needs the same strides .* use `pair_levels: stride`"):
        Distiller(
            student(), teachers=[TeacherConfig(teacher=teacher("faster_rcnn"), terms=structural(), pair_levels="place")]
        )


def test_the_larger_images_show_the_same_pixels() -> None:
    rows = torch.linspace(0, 1, 96)
    image = torch.stack([rows[:, None] * rows, rows[:, None].expand(96, 96), rows.expand(96, 96)])[None]
    canvas = teacher_canvas([image[0]], [(96, 96)], (96, 96), 1.5)
    assert canvas.shape[-2:] == (160, 160)  # 144 is no multiple of 32, so the image is stretched to fill it
    back = torch.nn.functional.interpolate(canvas, (96, 96), mode="bilinear", antialias=True)
    assert (back - image).abs().mean() < 0.02


def test_boxes_of_a_larger_image_come_back_in_the_students_pixels() -> None:
    pair = Distiller(student(), teachers=[TeacherConfig(teacher=teacher(), terms=structural(), scale=2.0)])
    given = larger(batch(), 2.0)
    theirs = pair.teacher.detector.predict(given.for_teacher())
    ours = pair.teacher.predict(given)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.boxes * 2, other.boxes)


def test_a_teacher_that_is_given_another_crop_is_found_out() -> None:
    pair = Distiller(student(), teachers=[TeacherConfig(teacher=teacher(), terms=structural(), scale=2.0)]).train()
    given = larger(batch(), 2.0)
    flipped = replace(given, teacher_images=given.teacher_images.flip(-1))
    assert any("do not show what the student's do" in fault for fault in examine(pair, flipped).all_faults)


def test_a_batch_without_its_larger_images_is_refused() -> None:
    pair = Distiller(student(), teachers=[TeacherConfig(teacher=teacher(), terms=structural(), scale=2.0)]).train()
    with pytest.raises(InputError, match="sees images 2 times as large"):
        pair(batch())
    images = list(batch().images)
    pair(images, batch().targets)  # from a list of images it makes them itself


def test_two_other_sizes_are_refused() -> None:
    paired_teachers = [
        TeacherConfig(teacher=teacher(), terms=structural(), scale=2.0, name="a"),
        TeacherConfig(teacher=tiny(seed=5), terms=structural(), scale=3.0, name="b"),
    ]
    with pytest.raises(InputError, match=r"\[2.0, 3.0\] times as large"):
        Distiller(student(), teachers=paired_teachers)
