"""Detectors whose last layers say exactly what encodes the objects, in the precision in which those layers would.

What they say is relative to anchors, points or regions as float32 has them: the rounding of such numbers is harmless,
and any other rounding moves boxes. Everything between the last layers and the detections is the detector's own.

Legend: A anchors of all levels, M objects, K class columns, B bins of an edge's distribution.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert, box_iou

from fakes import tiny
from kdet.data import DetectionIndex
from kdet.data.index import Names, offsets_of
from kdet.evaluate import coco_metrics, predict_loader
from kdet.types import Batch, Detector, Level, SizeHW, Target

CANVAS: SizeHW = (800, 1344)
SURE, NEVER = 8.0, -10.0
"""Logits; bfloat16 has both."""
_APART_PX = 160


def objects(classes: int = 3, first_label: int = 1, canvas: SizeHW = CANVAS) -> Target:
    """Objects of 12 to 32 px all over the canvas, beyond 512 and 864 too, at no round number."""
    generator = torch.Generator().manual_seed(3)
    rows, columns = (side // _APART_PX for side in canvas)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([x.flatten(), y.flatten()], 1) * _APART_PX + _APART_PX / 2
    centres = places + torch.rand(len(places), 2, generator=generator) * 20
    sides = 12 + 20 * torch.rand(len(places), 2, generator=generator)
    labels = torch.arange(len(places)) % classes + first_label
    return Target(boxes=torch.cat([centres - sides / 2, centres + sides / 2], 1), labels=labels)


def batch_of(target: Target, canvas: SizeHW = CANVAS, images: int = 1) -> Batch:
    """Grey images, all with the same objects."""
    return Batch(
        images=torch.full((images, 3, *canvas), 0.5),
        sizes_hw=[canvas] * images,
        original_sizes_hw=[canvas] * images,
        image_ids=list(range(images)),
        targets=[target] * images,
    )


def ap_of(detector: Detector, target: Target, precision: str, canvas: SizeHW = CANVAS) -> float:
    """COCO's AP of what it finds under this precision."""
    truth = _truth(target, detector.class_names, canvas)
    found = predict_loader(
        detector, [batch_of(target, canvas)], detector.class_names, device="cpu", precision=precision
    )
    ap = coco_metrics(truth, found).ap
    assert ap is not None
    return ap


def _truth(target: Target, classes: Sequence[str], canvas: SizeHW) -> DetectionIndex:
    boxes, labels = target["boxes"].numpy(), target["labels"].numpy().astype(np.int32)
    return DetectionIndex(
        root=Path("made-up"),
        classes=tuple(classes),
        image_ids=np.zeros(1, np.int64),
        file_names=Names.of(["0.png"]),
        sizes_hw=np.array([canvas], np.int32),
        boxes_xyxy=boxes,
        labels=labels,
        crowd=np.zeros(len(labels), bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        offsets=offsets_of(np.array([len(labels)], np.int64)),
    )


class Blank(nn.Module):
    """Stands for backbone and neck, whose maps no oracle looks at: zeros in the precision of a convolution."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[2:]
        sizes = [
            (level.channels, math.ceil(height / level.stride), math.ceil(width / level.stride)) for level in self.levels
        ]
        dtype = computed_in(images)
        return {
            level.name: images.new_zeros(len(images), *size, dtype=dtype)
            for level, size in zip(self.levels, sizes, strict=True)
        }


class Says(nn.Module):
    """Stands for the last layer of a head: one map after the other, in the precision of a convolution there and then.

    Its numbers fit into bfloat16, so that it says the same in either precision.
    """

    def __init__(self, *maps: Tensor) -> None:
        super().__init__()
        self.maps, self.turn = [m.bfloat16() for m in maps], 0

    def forward(self, given: Tensor) -> Tensor:
        said = self.maps[self.turn % len(self.maps)]
        self.turn += 1
        return said.expand(len(given), -1, -1, -1).to(computed_in(given))


def computed_in(given: Tensor) -> torch.dtype:
    """What a convolution or a linear layer would answer in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else given.dtype


def maps_of(flat_AK: Tensor, grids: Sequence[SizeHW], per_cell: Sequence[int]) -> list[Tensor]:
    """The maps 1×(A·K)×H×W of each level whose rows these are."""
    parts = flat_AK.split([h * w * a for (h, w), a in zip(grids, per_cell, strict=True)])
    return [part.view(h, w, -1).permute(2, 0, 1)[None] for part, (h, w) in zip(parts, grids, strict=True)]


_Layout = tuple[Tensor, list[SizeHW], list[int]]
"""Anchors, the grid of each level, anchors of a cell."""


def _layout(detector: Detector, generator: Any) -> _Layout:
    """Anchors as float32 has them, the grid of each level, anchors of a cell; the backbone is blank from here on."""
    detector.model.backbone = Blank(detector.levels)
    image = torch.zeros(1, 3, *CANVAS)
    features = list(detector.model.backbone(image).values())
    anchors = generator(ImageList(image, [CANVAS]), features)[0]
    return anchors, [(f.shape[2], f.shape[3]) for f in features], generator.num_anchors_per_location()


def nearest(anchors_A4: Tensor, boxes_M4: Tensor, among: int | None = None) -> Tensor:
    """The anchor that is most like each object; with `among`, of the first so many that whose centre is nearest."""
    if among is None:
        return box_iou(boxes_M4, anchors_A4).argmax(1)
    centres = [box_convert(b, "xyxy", "cxcywh")[:, :2] for b in (boxes_M4, anchors_A4[:among])]
    return torch.cdist(*centres).argmin(1)


def _logits(chosen_M: Tensor, labels_M: Tensor, shape: tuple[int, int]) -> Tensor:
    logits_AK = torch.full(shape, NEVER)
    logits_AK[chosen_M, labels_M] = SURE
    return logits_AK


def _placed(chosen_M: Tensor, values: Tensor, count: int, fill: float = 0.0) -> Tensor:
    placed = torch.full((count, values.shape[1]), fill)
    placed[chosen_M] = values
    return placed


def _answers(
    detector: Detector, chosen_M: Tensor, target: Target, values: Tensor, layout: _Layout, *, centred: bool = False
) -> None:
    """The head says of each chosen cell its object and these values of its box; `centred`, and that it is central."""
    anchors, grids, per_cell = layout
    head: Any = detector.model.head
    logits = _logits(chosen_M, target["labels"], (len(anchors), len(detector.class_names)))
    head.classification_head.cls_logits = Says(*maps_of(logits, grids, per_cell))
    head.regression_head.bbox_reg = Says(*maps_of(_placed(chosen_M, values, len(anchors)), grids, per_cell))
    if centred:
        centreness = torch.full((len(anchors), 1), SURE)
        head.regression_head.bbox_ctrness = Says(*maps_of(centreness, grids, per_cell))


def retinanet() -> tuple[Detector, Target]:
    detector, target = tiny("retinanet", anchor_scale=1.0, fpn_channels=8), objects()
    model: Any = detector.model
    anchors, *_ = layout = _layout(detector, model.anchor_generator)
    chosen = nearest(anchors, target["boxes"])
    deltas = model.box_coder.encode_single(target["boxes"], anchors[chosen])
    _answers(detector, chosen, target, deltas, layout)
    return detector, target


def fcos() -> tuple[Detector, Target]:
    detector, target = tiny("fcos", fpn_channels=32), objects()
    model: Any = detector.model
    anchors, grids, _ = layout = _layout(detector, model.anchor_generator)
    chosen = nearest(anchors, target["boxes"], grids[0][0] * grids[0][1])
    edges = model.box_coder.encode(anchors[chosen], target["boxes"])
    _answers(detector, chosen, target, edges, layout, centred=True)
    return detector, target


def ssdlite() -> tuple[Detector, Target]:
    detector, target = tiny("ssdlite"), objects()
    model: Any = detector.model
    anchors, grids, per_cell = _layout(detector, model.anchor_generator)
    chosen = nearest(anchors, target["boxes"], grids[0][0] * grids[0][1] * per_cell[0])
    deltas = model.box_coder.encode_single(target["boxes"], anchors[chosen])
    logits = _logits(chosen, target["labels"], (len(anchors), len(detector.class_names)))
    logits[:, 0] = 0.0
    heads = model.head.classification_head, model.head.regression_head
    for head, said in zip(heads, (logits, _placed(chosen, deltas, len(anchors))), strict=True):
        head.module_list = nn.ModuleList(Says(m) for m in maps_of(said, grids, per_cell))
    return detector, target


def atss() -> tuple[Detector, Target]:
    detector, target = tiny("atss", anchor_scale=1.0, fpn_channels=8), objects()
    model: Any = detector.model
    anchors, grids, _ = layout = _layout(detector, model.anchor_generator)
    chosen = nearest(anchors, target["boxes"], grids[0][0] * grids[0][1])
    deltas = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(target["boxes"], anchors[chosen])
    _answers(detector, chosen, target, deltas, layout, centred=True)
    return detector, target


def gfl() -> tuple[Detector, Target]:
    detector, target = tiny("gfl", anchor_scale=1.0, fpn_channels=8), objects()
    model: Any = detector.model
    anchors, grids, _ = layout = _layout(detector, model.anchor_generator)
    chosen = nearest(anchors, target["boxes"], grids[0][0] * grids[0][1])
    edges = two_bins(_distances(target["boxes"], anchors[chosen]) / 8, 17).flatten(1)
    _answers(detector, chosen, target, edges, layout)
    return detector, target


def _distances(boxes_M4: Tensor, anchors_M4: Tensor) -> Tensor:
    """Left, top, right, bottom from the anchors' centres in pixels."""
    centres = box_convert(anchors_M4, "xyxy", "cxcywh")[:, :2]
    return torch.cat([centres - boxes_M4[:, :2], boxes_M4[:, 2:] - centres], 1)


def two_bins(places: Tensor, bins: int) -> Tensor:
    """Logits …×B of the distribution over the two bins beside each place whose mean it is."""
    low = places.floor().clamp(0, bins - 2)
    share = (places - low).clamp(1e-3, 1 - 1e-3)
    logits = torch.full((*places.shape, bins), -30.0)
    logits.scatter_(-1, low.long()[..., None], (1 - share).log()[..., None])
    return logits.scatter_(-1, low.long()[..., None] + 1, share.log()[..., None])


class SaysOfRegions(nn.Module):
    """Stands for a box predictor: of each region that was pooled last, its object and the offsets to it."""

    def __init__(self, stage: Any, target: Target, columns: int, boxes_per_region: int) -> None:
        super().__init__()
        self.target, self.columns, self.boxes_per_region = target, columns, boxes_per_region
        self.coder = stage.box_coder
        self.regions: list[Tensor] = []
        stage.box_roi_pool.register_forward_pre_hook(
            lambda module, given: self.regions.__setitem__(slice(None), given[1])
        )

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        regions = torch.cat(self.regions)
        overlap, index = box_iou(regions.float(), self.target["boxes"]).max(1)
        logits = torch.full((len(regions), self.columns), NEVER)
        wanted = torch.where(overlap > 0.7, self.target["labels"][index], 0)
        logits[torch.arange(len(regions)), wanted] = SURE
        deltas = self.coder.encode_single(self.target["boxes"][index], regions.float())
        dtype = computed_in(given)
        return logits.to(dtype), deltas.repeat(1, self.boxes_per_region).bfloat16().to(dtype)


def _two_stage(name: str) -> tuple[Detector, Target]:
    detector, target = tiny(name, anchor_scale=1.0, fpn_channels=8), objects()
    model: Any = detector.model
    anchors, grids, per_cell = _layout(detector, model.rpn.anchor_generator)
    chosen = nearest(anchors, target["boxes"])
    deltas = model.rpn.box_coder.encode_single(target["boxes"], anchors[chosen])
    scores = torch.full((len(anchors), 1), NEVER)
    scores[chosen] = SURE
    model.rpn._pre_nms_top_n = dict.fromkeys(("training", "testing"), 100)  # a level; more take time alone
    model.rpn.head.cls_logits = Says(*maps_of(scores, grids, per_cell))
    model.rpn.head.bbox_pred = Says(*maps_of(_placed(chosen, deltas, len(anchors)), grids, per_cell))
    columns = len(detector.class_names)
    stages = getattr(model.roi_heads, "stages", [model.roi_heads])
    for stage in stages:
        stage.box_predictor = SaysOfRegions(stage, target, columns, 1 if len(stages) > 1 else columns)
    return detector, target


def faster_rcnn() -> tuple[Detector, Target]:
    return _two_stage("faster_rcnn")


def cascade_rcnn() -> tuple[Detector, Target]:
    return _two_stage("cascade_rcnn")


ORACLES: dict[str, Callable[[], tuple[Detector, Target]]] = {
    "retinanet": retinanet,
    "fcos": fcos,
    "ssdlite": ssdlite,
    "atss": atss,
    "gfl": gfl,
    "faster_rcnn": faster_rcnn,
    "cascade_rcnn": cascade_rcnn,
}
