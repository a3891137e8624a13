"""Set detectors of transformers whose last layers say exactly what encodes the objects; see `oracles.py`.

Legend: Q queries, L cells of all levels, M objects, K class columns. Boxes are centre and size, fractions of the input.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from detr_fakes import CONFIGS, tiny_detr
from kdet.types import Detector, Target
from oracles import CANVAS, NEVER, SURE, objects

QUERIES = 60


class SaysRows(nn.Linear):
    """Stands for the last layer of a head: one row a query or cell, in the precision of the layer there and then."""

    def __init__(self, layer: nn.Linear, *rows: Tensor) -> None:
        """Of all that are given those are said of which there are as many as asked for."""
        super().__init__(layer.in_features, layer.out_features)
        self.rows = rows

    def forward(self, input: Tensor) -> Tensor:
        own = super().forward(input)
        axis, rows = next((own.shape.index(len(rows)), rows) for rows in self.rows if len(rows) in own.shape[:-1])
        shape = [1] * own.ndim
        shape[axis], shape[-1] = rows.shape
        return rows.view(shape).expand_as(own).to(own.dtype).clone()


def say(head: Any, *rows: Tensor) -> None:
    """Put the rows in place of the last layer of an MLP."""
    head.layers[-1] = SaysRows(head.layers[-1], *rows)


def silence(*heads: Any) -> None:
    """Their last layers say 0: no refinement."""
    for head in heads:
        nn.init.zeros_(head.layers[-1].weight)
        nn.init.zeros_(head.layers[-1].bias)


def wanted(target: Target) -> Tensor:
    height, width = CANVAS
    return box_convert(target["boxes"], "xyxy", "cxcywh") / torch.tensor([width, height] * 2)


def of_queries(values: Tensor, fill: float, queries: int = QUERIES) -> Tensor:
    """Rows of the first M of Q queries, the others alike."""
    rows = torch.full((queries, values.shape[1]), fill)
    rows[: len(values)] = values
    return rows


def _classes(target: Target, columns: int) -> Tensor:
    """Logits Q×K."""
    logits = torch.full((len(target["labels"]), columns), NEVER)
    logits[torch.arange(len(logits)), target["labels"]] = SURE
    return of_queries(logits, NEVER)


def cells_of(boxes: Tensor, strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Boxes of all cells L×4 as two-stage detectors lay them, and the finest cell at each object's centre."""
    cells: list[Tensor] = []
    for level, stride in enumerate(strides):
        height, width = -(-CANVAS[0] // stride), -(-CANVAS[1] // stride)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1).view(-1, 2)
        cells.append(torch.cat([centres, torch.full_like(centres, 0.05 * 2**level)], 1))
    return torch.cat(cells), torch.cdist(boxes[:, :2], cells[0][:, :2]).argmin(1)


def ranked(chosen: Tensor, count: int, columns: int) -> Tensor:
    """Class logits L×K that put the chosen cells first, in this order; bfloat16 has all of them."""
    logits = torch.full((count, columns), NEVER)
    logits[chosen] = (14 - torch.arange(len(chosen)) / 16)[:, None].expand(-1, columns)
    return logits


def absolute(kind: str) -> tuple[Detector, Target]:
    """DETR: boxes by themselves, and a column for no object."""
    detector, target = tiny_detr(kind, num_queries=QUERIES), objects(first_label=0)
    model: Any = detector.model
    say(model.bbox_predictor, of_queries(wanted(target).logit(), 0.0))
    classes = _classes(target, 4)
    classes[len(target["labels"]) :, 3] = SURE
    model.class_labels_classifier = SaysRows(model.class_labels_classifier, classes)
    return detector, target


def conditional(kind: str) -> tuple[Detector, Target]:
    """Centres are points that are learned; sizes are said."""
    detector, target = tiny_detr(kind, num_queries=QUERIES), objects(first_label=0)
    model: Any = detector.model
    boxes = of_queries(wanted(target), 0.5).logit()
    say(model.model.decoder.ref_point_head, boxes[:, :2])
    say(model.bbox_predictor, torch.cat([torch.zeros(QUERIES, 2), boxes[:, 2:]], 1))
    model.class_labels_classifier = SaysRows(model.class_labels_classifier, _classes(target, 3))
    return detector, target


def dab(kind: str) -> tuple[Detector, Target]:
    """Boxes are points that are learned, refined by nothing."""
    detector, target = tiny_detr(kind, num_queries=QUERIES), objects(first_label=0)
    model: Any = detector.model
    model.model.query_refpoint_embeddings.weight.data = of_queries(wanted(target), 0.5).logit()
    silence(model.bbox_predictor, model.model.decoder.bbox_embed)
    model.class_embed = SaysRows(model.class_embed, _classes(target, 3))
    return detector, target


def deformable(kind: str) -> tuple[Detector, Target]:
    """Centres from a layer on the queries' embeddings; sizes are said."""
    detector, target = tiny_detr(kind, num_queries=QUERIES), objects(first_label=0)
    model: Any = detector.model
    boxes = of_queries(wanted(target), 0.5).logit()
    model.model.reference_points = SaysRows(model.model.reference_points, boxes[:, :2])
    for head in model.bbox_embed:
        say(head, torch.cat([torch.zeros(QUERIES, 2), boxes[:, 2:]], 1))
    for i, layer in enumerate(model.class_embed):
        model.class_embed[i] = SaysRows(layer, _classes(target, 3))
    return detector, target


def two_stage(kind: str) -> tuple[Detector, Target]:
    """The best cells become queries; their offsets are said, and refined by nothing."""
    detector, target = tiny_detr(kind, num_queries=QUERIES, num_denoising=0), objects(first_label=0)
    model: Any = detector.model
    boxes = wanted(target)
    cells, chosen = cells_of(boxes, (8, 16, 32))
    offsets = torch.zeros_like(cells)
    offsets[chosen] = boxes.logit() - cells[chosen].logit()
    model.model.enc_score_head = SaysRows(model.model.enc_score_head, ranked(chosen, len(cells), 3))
    say(model.model.enc_bbox_head, offsets)
    decoder = model.model.decoder
    silence(*decoder.bbox_embed)
    if hasattr(decoder, "pre_bbox_head"):
        silence(decoder.pre_bbox_head, *(layer.reg_conf for layer in decoder.lqe_layers))
    for i, layer in enumerate(decoder.class_embed):
        decoder.class_embed[i] = SaysRows(layer, _classes(target, 3))
    return detector, target


def grouped(kind: str) -> tuple[Detector, Target]:
    """The best cells become queries; their offsets are learned, and refined by nothing."""
    backbone = {**CONFIGS[kind]["backbone_config"], **({"window_block_indexes": [0, 1]} if kind == "rf_detr" else {})}
    detector = tiny_detr(kind, num_queries=QUERIES, group_detr=1, backbone_config=backbone)
    target, model = objects(first_label=0), detector.model
    boxes = wanted(target)
    cells, chosen = cells_of(boxes, (16,))
    side = CANVAS[1] // 16  # rf_detr is padded below to a square, of which boxes are not fractions
    best = ranked(chosen, side * side if kind == "rf_detr" else len(cells), 3)
    own = cells[chosen]
    offsets = torch.cat([(boxes[:, :2] - own[:, :2]) / own[:, 2:], (boxes[:, 2:] / own[:, 2:]).log()], 1)
    weight = model.model.reference_point_embed.weight
    weight.data = of_queries(offsets, 0.0).repeat(len(weight) // QUERIES, 1)
    for i, layer in enumerate(model.model.enc_out_class_embed):
        model.model.enc_out_class_embed[i] = SaysRows(layer, best, _classes(target, 3))
    silence(*model.model.enc_out_bbox_embed, model.bbox_embed)
    model.class_embed = SaysRows(model.class_embed, _classes(target, 3))
    return detector, target


QUERY_ORACLES: dict[str, Callable[[str], tuple[Detector, Target]]] = {
    **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine", "deimv2"), two_stage),
    "deformable_detr": deformable,
    **dict.fromkeys(("rf_detr", "lw_detr"), grouped),
    "conditional_detr": conditional,
    "dab-detr": dab,
    **dict.fromkeys(("detr", "table-transformer"), absolute),
}
