"""GFL: a dense detector whose class score says how well the box fits, and whose box edges are distributions.

Legend: N images, A anchors of all levels, K class columns, P positives of the batch, E = 4 edges (left, top, right,
bottom), B bins of an edge's distribution.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import generalized_box_iou_loss

from .box_coding import decode_distances, encode_distances, paired_iou
from .exact import at_least_float32
from .gfl_losses import distribution_focal_loss, expectation, quality_focal_loss
from .one_stage import (
    ExactAnchors,
    Limits,
    Objects,
    assign_all,
    at_labels,
    best_detections,
    decode_levels,
    positives,
    resizer,
    run,
)
from .towers import ClassificationHead, Scale, last_layer, rows, tower

BOX_WEIGHT = 2.0
DISTRIBUTION_WEIGHT = 0.25
REG_MAX = 16
"""The farthest edge that can be predicted, in strides; an edge has a bin for 0, 1, … REG_MAX."""
EDGES = 4


class RegressionHead(nn.Module):
    """Four convolutions with GroupNorm, then a distribution for each edge, scaled by level."""

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.conv = tower(channels)
        self.bbox_reg = last_layer(channels, EDGES * (REG_MAX + 1))
        self.scales = nn.ModuleList(Scale() for _ in self.strides)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """`edge_logits` N×A×E×B, and their expectation `bbox_regression` N×A×E in pixels from the anchor's centre."""
        return self.predict([self.conv(feature) for feature in features])

    def predict(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The same from what the hidden layers made."""
        levels = [scale(self.bbox_reg(m)) for scale, m in zip(self.scales, maps, strict=True)]
        logits_NAEB = rows(levels, EDGES * (REG_MAX + 1)).unflatten(-1, (EDGES, REG_MAX + 1))
        strides_A = by_anchor(self.strides, [m.shape[2] * m.shape[3] for m in maps], logits_NAEB)
        return {"bbox_regression": expectation(logits_NAEB) * strides_A[:, None], "edge_logits": logits_NAEB}


class GFLHead(nn.Module):
    """Both branches and their losses."""

    def __init__(self, channels: int, num_classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(channels, num_classes)
        self.regression_head = RegressionHead(channels, strides)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """`cls_logits` N×A×K and what the regression head gives."""
        return {"cls_logits": self.classification_head(features), **self.regression_head(features)}

    def compute_loss(
        self,
        targets: Sequence[Objects],
        head_outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        matched_idxs: Sequence[Tensor],
        num_anchors_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """The losses under a given assignment; see `GFL`."""
        found = positives(targets, matched_idxs)
        logits_NAK = at_least_float32(head_outputs["cls_logits"])
        anchors_P4 = torch.stack(list(anchors))[found.mask_NA]
        boxes_P4 = decode_distances(head_outputs["bbox_regression"][found.mask_NA], anchors_P4)
        iou_P = paired_iou(boxes_P4.detach(), found.boxes_P4)
        quality = quality_focal_loss(logits_NAK, at_labels(logits_NAK, found, iou_P))
        strides_A = by_anchor(self.regression_head.strides, num_anchors_per_level, anchors_P4)
        strides_P1 = strides_A.expand_as(found.mask_NA)[found.mask_NA][:, None]
        edges_PE = encode_distances(found.boxes_P4, anchors_P4) / strides_P1
        blur_P = distribution_focal_loss(head_outputs["edge_logits"][found.mask_NA], edges_PE).mean(1)
        misfit_P = generalized_box_iou_loss(boxes_P4, found.boxes_P4)
        weight_P = logits_NAK.detach()[found.mask_NA].sigmoid().amax(1)
        total_weight = weight_P.sum().clamp_min(1e-6)
        return {
            "classification": quality.sum() / max(1, len(boxes_P4)),
            "bbox_regression": BOX_WEIGHT * (weight_P * misfit_P).sum() / total_weight,
            "bbox_distribution": DISTRIBUTION_WEIGHT * (weight_P * blur_P).sum() / total_weight,
        }


class GFL(nn.Module):
    """A dense detector under the generalized focal loss; used like torchvision's RetinaNet.

    Paper: Li, Wang, Wu, Chen, Hu, Li, Tang, Yang, "Generalized Focal Loss: Learning Qualified and Distributed Bounding
    Boxes for Dense Object Detection", NeurIPS 2020, https://arxiv.org/abs/2006.04388.

        L = 1/P Σ QFL(σ, y)  +  Σ_i w_i ( 2 (1 - GIoU_i) + 1/4 · 1/4 Σ_e DFL(S_ie, d_ie) ) / Σ_i w_i
        QFL(σ, y) = |y - σ|^β BCE(σ, y)                                                 (equation 5)
        DFL(S, d) = -( (j+1 - d) log S_j + (d - j) log S_{j+1} ),  j = ⌊d⌋              (equation 6)
        d̂ = Σ_j softmax(z)_j · j                                                       (equation 4)

    | symbol    | here                                                                                |
    |-----------|-------------------------------------------------------------------------------------|
    | P         | the positives of the batch, by `assign_adaptively` with k = 9                       |
    | σ, y, β   | class score; IoU of predicted box and object at its label, else 0; 2                |
    | w         | the highest class score of each positive; no gradient goes there                    |
    | S, z      | softmax over the bins 0 … 16 of an edge, and its logits, by a learned factor a level |
    | d, d̂      | distance of an edge from the anchor's centre, in strides of its level               |
    | anchors   | one square a cell, of side 8 · stride (times `anchor_scale` in `build_model`)       |

    Args:
        backbone: gives one map a level, all with as many channels.
        num_classes: columns of the class layer; column 0 is the background and never positive, as in torchvision.
        anchor_generator: one anchor a cell.
        strides: of the levels, in pixels; the unit of the bins, which `anchor_scale` does not change.
        min_size, max_size: of the input images, as in torchvision.
        limits: which detections are kept.

    Deviations: P and Σ w are those of the process, as in torchvision, where the official code takes the mean over
    processes. Edges beyond 16 strides count as 16 in DFL; none lies below 0, since the centre of a positive is inside
    its object.
    """

    def __init__(
        self,
        backbone: BackboneWithFPN,
        num_classes: int,
        *,
        anchor_generator: AnchorGenerator,
        strides: Sequence[int],
        min_size: int = 800,
        max_size: int = 1333,
        limits: Limits | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchor_generator = ExactAnchors(anchor_generator)
        self.head = GFLHead(int(backbone.out_channels), num_classes, strides)
        self.transform = resizer(min_size, max_size)
        self.limits = limits or Limits()

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses by name in training mode, else a dictionary of boxes, scores and labels for each image."""
        return run(self, images, targets)

    def compute_loss(
        self,
        targets: Sequence[Objects],
        head_outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        num_anchors_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """The task losses of a batch."""
        matched = assign_all(targets, anchors, num_anchors_per_level)
        return self.head.compute_loss(targets, head_outputs, anchors, matched, num_anchors_per_level)

    def decode(self, regression_A4: Tensor, anchors_A4: Tensor) -> Tensor:
        """Boxes A×4 of one image or level."""
        return decode_distances(regression_A4, anchors_A4)

    def postprocess_detections(
        self,
        head_outputs: Mapping[str, Sequence[Tensor]],
        anchors: Sequence[Sequence[Tensor]],
        image_shapes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections of each image; outputs and anchors come split by level."""
        scores = [at_least_float32(logits).sigmoid() for logits in head_outputs["cls_logits"]]
        boxes = decode_levels(self.decode, head_outputs["bbox_regression"], anchors)
        return best_detections(scores, boxes, image_shapes, self.limits)


def by_anchor(strides: Sequence[int], num_anchors_per_level: Sequence[int], like: Tensor) -> Tensor:
    """Return the stride of each anchor, A."""
    pairs = zip(strides, num_anchors_per_level, strict=True)
    return torch.cat([torch.full((count,), float(stride), device=like.device) for stride, count in pairs])
