"""Faster and Cascade R-CNN in fixed shapes: every image has as many regions, some of them empty places.

torchvision's own path sorts regions into lists by image and level, whose lengths a graph cannot know.

Legend: N images, P regions of an image, K class columns, C channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import roi_align

from kdet.detectors.batching import level_counts, without_background
from kdet.detectors.plain import CascadeHeads
from kdet.ops.selection import Candidates, Selection, best_of_levels, clipped, without_overlaps
from kdet.types import Level, SizeHW

_LEAST_SIDE_PX = 1e-2
"""torchvision drops detections that are smaller."""


def selection_of(model: Any) -> Selection:
    """Return the box head's threshold and NMS; a cascade's is that of its last stage."""
    heads = model.roi_heads
    own = heads.stages[-1] if isinstance(heads, CascadeHeads) else heads
    return Selection(
        score=own.score_thresh, best=None, group="image", nms_iou=own.nms_thresh, detections=own.detections_per_img
    )


def candidates_of(model: Any, levels: Sequence[Level], images: Tensor) -> Candidates:
    """Return the RPN's regions with the box head's scores and boxes, of normalised images N×3×H×W (evaluation mode)."""
    size_hw = (int(images.shape[2]), int(images.shape[3]))
    maps: dict[str, Tensor] = model.backbone(images)
    regions_NP4, objectness_NP = _regions(model, images, list(maps.values()), size_hw)
    strides = {level.name: level.stride for level in levels}
    heads = model.roi_heads
    if isinstance(heads, CascadeHeads):
        for stage in heads.stages[:-1]:
            _, deltas = stage.box_predictor(stage.box_head(_pooled(stage.box_roi_pool, maps, strides, regions_NP4)))
            regions_NP4 = clipped(_decoded(stage, deltas, regions_NP4)[:, :, 0], size_hw)
        last = heads.stages[-1]
        pooled = _pooled(last.box_roi_pool, maps, strides, regions_NP4)
        _, deltas = last.box_predictor(last.box_head(pooled))
        scores = heads.log_scores(pooled).softmax(-1)
        boxes_NPK4 = _decoded(last, deltas.repeat(1, scores.shape[1]), regions_NP4)
    else:
        logits, deltas = heads.box_predictor(heads.box_head(_pooled(heads.box_roi_pool, maps, strides, regions_NP4)))
        scores = logits.softmax(-1)
        boxes_NPK4 = _decoded(heads, deltas, regions_NP4)
    boxes_NPK4 = clipped(boxes_NPK4, size_hw)
    scores_NPK = without_background(scores).view(*boxes_NPK4.shape[:3])
    sound_NPK = _sides(boxes_NPK4).ge(_LEAST_SIDE_PX).all(-1) & (objectness_NP > 0)[..., None]
    return Candidates(torch.where(sound_NPK, scores_NPK, 0.0), boxes_NPK4, (int(boxes_NPK4.shape[1]),))


def _regions(model: Any, images: Tensor, features: list[Tensor], size_hw: SizeHW) -> tuple[Tensor, Tensor]:
    """Boxes N×P×4 and objectness N×P of the RPN after its NMS by level; objectness 0 is an empty place."""
    rpn = model.rpn
    logits, deltas = rpn.head(features)
    counts = level_counts(features, [int(level.shape[1]) for level in logits])
    logits, deltas = concat_box_prediction_layers(logits, deltas)
    anchors = rpn.anchor_generator(ImageList(images, [size_hw]), features)[0]
    boxes = rpn.box_coder.decode_single(deltas, anchors.repeat(images.shape[0], 1)).unflatten(0, (-1, len(anchors)))
    scores_NA = logits.view(-1, len(anchors)).sigmoid()
    kept_NP, places_NP = best_of_levels(scores_NA, counts, rpn.pre_nms_top_n())
    boxes_NP4 = clipped(boxes.gather(1, places_NP[..., None].expand(-1, -1, 4)), size_hw)
    levels_A = torch.cat([torch.full((n,), i, device=images.device) for i, n in enumerate(counts)])
    sound_NP = _sides(boxes_NP4).ge(rpn.min_size).all(-1) & (kept_NP >= rpn.score_thresh)
    kept_NP = without_overlaps(boxes_NP4, torch.where(sound_NP, kept_NP, 0.0), levels_A[places_NP], rpn.nms_thresh)
    best_NP, order_NP = kept_NP.topk(min(rpn.post_nms_top_n(), kept_NP.shape[1]))
    return boxes_NP4.gather(1, order_NP[..., None].expand(-1, -1, 4)), best_NP


def _pooled(pool: Any, maps: Mapping[str, Tensor], strides: Mapping[str, int], regions_NP4: Tensor) -> Tensor:
    """RoIAlign on the level that suits each region's size, (N·P)×C×h×w.

    Every region is pooled on every level, and one of them is taken: the levels' counts are not fixed.
    """
    images = torch.arange(regions_NP4.shape[0], device=regions_NP4.device, dtype=regions_NP4.dtype)
    numbers = images[:, None, None].expand(-1, regions_NP4.shape[1], 1)
    regions = torch.cat([numbers, regions_NP4], dim=2).flatten(0, 1)
    named = [name for name in pool.featmap_names if name in maps]
    finest, coarsest = (int(strides[name]).bit_length() - 1 for name in (named[0], named[-1]))
    sides = _sides(regions[:, 1:]).clamp_min(0.0).prod(-1).sqrt()
    wanted = (pool.canonical_level + (sides / pool.canonical_scale + 1e-30).log2() + 1e-6).floor()
    wanted = wanted.clamp(float(finest), float(coarsest))
    result: Tensor | None = None
    for name in named:
        level = strides[name].bit_length() - 1
        one = roi_align(maps[name], regions, pool.output_size, 1 / strides[name], pool.sampling_ratio)
        result = one if result is None else torch.where((wanted == level)[:, None, None, None], one, result)
    assert result is not None, "a pooler reads at least one level"
    return result


def _decoded(heads: Any, deltas: Tensor, regions_NP4: Tensor) -> Tensor:
    """Boxes N×P×K×4 of the offsets (N·P)×4K."""
    flat = heads.box_coder.decode_single(deltas, regions_NP4.flatten(0, 1))
    return flat.view(*regions_NP4.shape[:2], -1, 4)


def _sides(boxes: Tensor) -> Tensor:
    """Width and height of boxes …×4."""
    return boxes[..., 2:] - boxes[..., :2]
