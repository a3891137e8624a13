"""ATSS: a dense detector with one anchor a cell, whose positives are chosen object by object.

Legend: N images, A anchors of all levels, K class columns, P positives of the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from .box_coding import centreness, decode_deltas
from .exact import at_least_float32
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


class RegressionHead(nn.Module):
    """Four convolutions with GroupNorm, then box deltas, scaled by level, and centreness."""

    def __init__(self, channels: int, num_levels: int) -> None:
        super().__init__()
        self.conv = tower(channels)
        self.bbox_reg = last_layer(channels, 4)
        self.bbox_ctrness = last_layer(channels, 1)
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels))

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """`bbox_regression` N×A×4 and `bbox_ctrness` N×A×1."""
        return self.predict([self.conv(feature) for feature in features])

    def predict(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The same from what the hidden layers made."""
        deltas = [scale(self.bbox_reg(m)) for scale, m in zip(self.scales, maps, strict=True)]
        return {
            "bbox_regression": rows(deltas, 4),
            "bbox_ctrness": rows([self.bbox_ctrness(m) for m in maps], 1),
        }


class ATSSHead(nn.Module):
    """Both branches and their losses."""

    def __init__(self, channels: int, num_classes: int, num_levels: int) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(channels, num_classes)
        self.regression_head = RegressionHead(channels, num_levels)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """`cls_logits` N×A×K and what the regression head gives."""
        return {"cls_logits": self.classification_head(features), **self.regression_head(features)}

    def compute_loss(
        self,
        targets: Sequence[Objects],
        head_outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        matched_idxs: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The losses under a given assignment; see `ATSS`."""
        found = positives(targets, matched_idxs)
        logits_NAK = at_least_float32(head_outputs["cls_logits"])
        anchors_P4 = torch.stack(list(anchors))[found.mask_NA]
        boxes_P4 = decode_deltas(head_outputs["bbox_regression"][found.mask_NA], anchors_P4)
        quality_P = at_least_float32(head_outputs["bbox_ctrness"][found.mask_NA]).squeeze(-1)
        centreness_P = centreness(anchors_P4, found.boxes_P4)
        misfit_P = generalized_box_iou_loss(boxes_P4, found.boxes_P4)
        count = max(1, len(boxes_P4))
        return {
            "classification": sigmoid_focal_loss(logits_NAK, at_labels(logits_NAK, found, 1.0)).sum() / count,
            "bbox_regression": BOX_WEIGHT * (misfit_P * centreness_P).sum() / centreness_P.sum().clamp_min(1e-6),
            "bbox_ctrness": F.binary_cross_entropy_with_logits(quality_P, centreness_P, reduction="sum") / count,
        }


class ATSS(nn.Module):
    """A dense detector with adaptive training sample selection; used like torchvision's RetinaNet.

    Paper: Zhang, Chi, Yao, Lei, Li, "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
    Training Sample Selection", CVPR 2020, https://arxiv.org/abs/1912.02424.

        L = 1/P Σ focal(p, y)  +  2 Σ_i c_i (1 - GIoU_i) / Σ_i c_i  +  1/P Σ_i BCE(ĉ_i, c_i)
        c_i = √( min(l, r)/max(l, r) · min(t, b)/max(t, b) )

    | symbol     | here                                                                              |
    |------------|-----------------------------------------------------------------------------------|
    | P, y       | the positives of the batch and their labels, by `assign_adaptively` with k = 9    |
    | focal      | α = 0.25, γ = 2, over all anchors and classes                                     |
    | l, t, r, b | distances of a positive anchor's centre to the edges of its object                |
    | c, ĉ       | centreness and the head's logit for it                                            |
    | anchors    | one square a cell, of side 8 · stride (times `anchor_scale` in `build_model`)     |
    | boxes      | deltas of centre and size, times (10, 10, 5, 5), by a learned factor a level      |

    Args:
        backbone: gives one map a level, all with as many channels.
        num_classes: columns of the class layer; column 0 is the background and never positive, as in torchvision.
        anchor_generator: one anchor a cell.
        min_size, max_size: of the input images, as in torchvision.
        limits: which detections are kept.

    Deviations: counts of positives are those of the process, as in torchvision, where the official code takes the mean
    over processes. A detection's score is √(class score · centreness), and the threshold of 0.05 holds for it; the
    official code holds it against the class score alone.
    """

    def __init__(
        self,
        backbone: BackboneWithFPN,
        num_classes: int,
        *,
        anchor_generator: AnchorGenerator,
        min_size: int = 800,
        max_size: int = 1333,
        limits: Limits | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchor_generator = ExactAnchors(anchor_generator)
        num_levels = len(anchor_generator.num_anchors_per_location())
        self.head = ATSSHead(int(backbone.out_channels), num_classes, num_levels)
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
        return self.head.compute_loss(
            targets, head_outputs, anchors, assign_all(targets, anchors, num_anchors_per_level)
        )

    def decode(self, regression_A4: Tensor, anchors_A4: Tensor) -> Tensor:
        """Boxes A×4 of one image or level."""
        return decode_deltas(regression_A4, anchors_A4)

    def postprocess_detections(
        self,
        head_outputs: Mapping[str, Sequence[Tensor]],
        anchors: Sequence[Sequence[Tensor]],
        image_shapes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections of each image; outputs and anchors come split by level."""
        levels = zip(head_outputs["cls_logits"], head_outputs["bbox_ctrness"], strict=True)
        scores = [(at_least_float32(c).sigmoid() * at_least_float32(q).sigmoid()).sqrt() for c, q in levels]
        boxes = decode_levels(self.decode, head_outputs["bbox_regression"], anchors)
        return best_detections(scores, boxes, image_shapes, self.limits)
