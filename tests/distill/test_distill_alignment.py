"""Maps of two models lie on each other: what the teacher knows of a pixel meets the student's cell of that pixel.

Every teacher's map is replaced by one that holds, in each cell, where its middle is; resized, the student's cells must
find their own middles there. The canvases are no multiples of the coarse strides, so that some maps reach beyond them.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fakes import tiny
from kdet.detectors.backbones.foundation import foundation
from kdet.distill import Distiller, TeacherConfig
from kdet.distill.methods import prediction_guided, structural
from kdet.distill.views.base import GuidedFeatures, StepContext, paired_features
from kdet.distill.views.features import FeaturesByRegion, FeaturesByScore, FeaturesInBoxes
from kdet.ops.canvas import teacher_canvas
from kdet.types import Batch, Detector, Need, Observation, Target

BOX = [104.0, 8.0, 120.0, 40.0]


def batch_of(size_hw: tuple[int, int], scale: float = 1.0) -> Batch:
    images = [torch.rand(3, *size_hw, generator=torch.Generator().manual_seed(3))]
    return Batch(
        images=torch.stack(images),
        sizes_hw=[size_hw],
        original_sizes_hw=[size_hw],
        image_ids=[0],
        targets=[Target(boxes=torch.tensor([BOX]), labels=torch.tensor([1]))],
        teacher_images=teacher_canvas(images, [size_hw], size_hw, scale) if scale != 1 else None,
    )


def middles(cells_hw: tuple[int, int], stride_hw: tuple[float, float]) -> Tensor:
    """2×H×W: y and x of the middle of each cell in pixels."""
    y, x = ((torch.arange(n) + 0.5) * stride for n, stride in zip(cells_hw, stride_hw, strict=True))
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


def ramps(seen: Observation, maps: list[Tensor], canvas_hw: tuple[int, int]) -> list[Tensor]:
    """Of each level a map 1×2×H×W in pixels of that canvas; `seen` may be of a larger one."""
    ratio = [own / large for own, large in zip(canvas_hw, seen.input_size_hw, strict=True)]
    strides = [(level.stride * ratio[0], level.stride * ratio[1]) for level in seen.levels]
    return [middles((m.shape[2], m.shape[3]), stride)[None].clone() for m, stride in zip(maps, strides, strict=True)]


def context_with_ramps(pair: Distiller, batch: Batch) -> StepContext:
    needs = frozenset({Need.FEATURES, Need.CLASS_LOGITS}) & pair.student.provides
    pair.student.model.eval()  # the norms of a single cell
    with torch.no_grad():
        _, (context, *_) = pair.observe_pair(batch, only=needs, also=needs)
    assert context.student.features is not None and context.teacher.features is not None
    canvas_hw = context.student.input_size_hw
    return replace(
        context,
        student=replace(context.student, features=ramps(context.student, context.student.features, canvas_hw)),
        teacher=replace(context.teacher, features=ramps(context.teacher, context.teacher.features, canvas_hw)),
    )


def vit(patch: int) -> Detector:
    options = {"depth": 1, "embed_dim": 16, "num_heads": 1}
    return foundation(f"vit_tiny_patch{patch}_224" if patch == 16 else "vit_small_patch14_dinov2", options=options)


PAIRS: dict[str, tuple[str, Callable[[], Detector], float]] = {
    "coarser and finer levels": ("ssdlite", lambda: tiny("fcos"), 1.0),
    "the other way round": ("fcos", lambda: tiny("ssdlite"), 1.0),
    "larger images 1.2": ("retinanet", lambda: tiny("retinanet"), 1.2),
    "larger images 1.5": ("retinanet", lambda: tiny("atss"), 1.5),
    "larger images 2": ("faster_rcnn", lambda: tiny("gfl"), 2.0),
    "patches of 14": ("retinanet", lambda: vit(14), 1.0),
    "patches of 16 and larger images": ("faster_rcnn", lambda: vit(16), 1.75),
}


@pytest.mark.parametrize("size_hw", [(96, 160), (160, 96), (224, 416)])
@pytest.mark.parametrize("which", PAIRS)
def test_a_students_cell_meets_what_the_teacher_knows_of_its_own_pixels(which: str, size_hw: tuple[int, int]) -> None:
    name, make, scale = PAIRS[which]
    student = tiny(name)
    pair = Distiller(student, teachers=[TeacherConfig(teacher=make(), terms=structural(), scale=scale)])
    context = context_with_ramps(pair, batch_of(size_hw, scale))
    ours, theirs = paired_features(context, lambda maps: maps)
    assert not all(level.exact for level in context.pairing.levels) or scale == 2
    for level, student_map, teacher_map in zip(context.pairing.levels, ours, theirs, strict=True):
        own = (context.teacher.features or [])[level.teacher]
        known = student_map.clamp(own.amin((2, 3), keepdim=True), own.amax((2, 3), keepdim=True))
        torch.testing.assert_close(teacher_map, known, rtol=0, atol=0.01)


def test_class_maps_and_scores_are_resized_as_the_features_are() -> None:
    student = tiny("fcos")
    pair = Distiller(student, teachers=[TeacherConfig(teacher=tiny("fcos"), terms=prediction_guided(), scale=1.2)])
    batch = batch_of((96, 160), 1.2)
    context = context_with_ramps(pair, batch)
    # The class maps hold x; 0.001 of it, so that a sigmoid still tells cells apart.
    x = [m[:, 1].reshape(1, -1, 1) * 0.001 for m in context.teacher.features or []]
    logits = torch.cat(x, dim=1).repeat(1, 1, 4)
    context = replace(context, teacher=replace(context.teacher, class_logits=logits, quality_logits=None))
    _, expected = paired_features(context, lambda maps: maps)
    found = GuidedFeatures()(context, lambda maps: maps)["teacher_logits"]
    scores = FeaturesByScore()(context, lambda maps: maps)["teacher_scores"]
    for wanted, guided, score in zip(expected, found, scores, strict=True):
        torch.testing.assert_close(guided[:, :1] * 1000, wanted[:, 1:], rtol=1e-4, atol=0.01)
        torch.testing.assert_close(torch.logit(score) * 1000, wanted[:, 1:], rtol=1e-3, atol=0.1)


def test_the_cells_of_a_box_are_those_that_lie_over_it() -> None:
    """On 96×160 pixels the level of stride 128 has two cells side by side; the box ends at 120, within the first."""
    student = tiny("retinanet")
    pair = Distiller(student, tiny("retinanet", seed=2), structural())
    batch = batch_of((96, 160))
    context = context_with_ramps(pair, batch)
    masks = FeaturesInBoxes()(context, lambda maps: maps)["weight"]
    by_area = FeaturesByRegion()(context, lambda maps: maps)
    for level, mask, foreground, background in zip(
        context.pairing.levels, masks, by_area["foreground"], by_area["background"], strict=True
    ):
        y, x = middles((mask.shape[2], mask.shape[3]), (level.stride,) * 2)
        half = level.stride / 2
        over = (x + half > BOX[0]) & (x - half < BOX[2]) & (y + half > BOX[1]) & (y - half < BOX[3])
        assert torch.equal(mask[0, 0] > 0, over)
        assert torch.equal(foreground[0, 0] > 0, over)
        assert torch.equal(background[0, 0] > 0, ~over)
    assert masks[-1].shape[2:] == (1, 2) and masks[-1][0, 0, 0].tolist() == [1.0, 0.0]
