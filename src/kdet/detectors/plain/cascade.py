"""Cascade R-CNN on torchvision's RoI heads.

Legend: P regions of the whole batch, K class columns.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image

from .exact import at_least_float32

IOUS = (0.5, 0.6, 0.7)
"""Overlap from which a region is an object's, by stage."""
CODER_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""What the offsets of x, y, width, height are multiplied by, by stage."""
LOSS_WEIGHTS = (1.0, 0.5, 0.25)
REGIONS_PER_IMAGE = 512
OBJECT_SHARE = 0.25
SCORE_THRESHOLD, NMS_IOU, DETECTIONS_PER_IMAGE = 0.05, 0.5, 100
_BETA = 1 / 9
"""Difference at which torchvision's smooth L1 turns from square to straight."""

Targets = Sequence[dict[str, Tensor]]
SizesHW = Sequence[tuple[int, int]]


class TrainedRegions(NamedTuple):
    """What a training pass leaves of the last stage's regions, and the losses of all stages."""

    proposals: list[Tensor]
    labels: list[Tensor]
    pooled: Tensor
    losses: dict[str, Tensor]


class AgnosticPredictor(nn.Module):
    """Class scores, and one box for all classes."""

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, num_classes)
        self.bbox_pred = nn.Linear(hidden, 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits P×K and offsets P×4."""
        return self.cls_score(hidden), self.bbox_pred(hidden)


class CascadeHeads(nn.Module):
    """Three box heads in a row, each on the regions that the one before has refined.

    Paper: Cai, Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", CVPR 2018,
    https://arxiv.org/abs/1712.00726.

        stage t:  L_t = L_cls(h_t(x_t), y_t) + [y_t ≥ 1] L_loc(f_t(x_t, b_t), g),   y_t by IoU ≥ u_t
                  b_{t+1} = f_t(x_t, b_t)
        test:     scores (h_1 + h_2 + h_3)(x_3) / 3,  boxes f_3(x_3, b_3)

    | symbol | constant       | value                                                |
    |--------|----------------|------------------------------------------------------|
    | u_t    | IOUS           | 0.5, 0.6, 0.7                                        |
    | f_t    | CODER_WEIGHTS  | one box for all classes; (10,10,5,5) × 1, 2, 3       |
    | –      | LOSS_WEIGHTS   | 1, 0.5, 0.25, the usual weights of the stages' sum   |

    Deviations: the second and third stage label all regions of the first stage's sample anew and draw no sample of
    their own. Box losses are torchvision's: smooth L1 that is straight from 1/9 on, divided by all regions. The
    offsets' standard deviations are those of later implementations (inverse CODER_WEIGHTS).
    """

    def __init__(self, pool: MultiScaleRoIAlign, channels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        stages = [
            RoIHeads(
                pool,
                TwoMLPHead(channels * pool.output_size[0] ** 2, hidden),
                AgnosticPredictor(hidden, num_classes),
                iou,
                iou,
                REGIONS_PER_IMAGE,
                OBJECT_SHARE,
                weights,
                SCORE_THRESHOLD,
                NMS_IOU,
                DETECTIONS_PER_IMAGE,
            )
            for iou, weights in zip(IOUS, CODER_WEIGHTS, strict=True)
        ]
        self.stages: Any = nn.ModuleList(stages)  # torchvision's attributes carry no types

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections in evaluation mode, losses in training mode, as torchvision's RoIHeads."""
        if self.training:
            assert targets is not None, "training needs targets"
            return [], self.train_on(features, proposals, image_shapes, targets).losses
        proposals = [at_least_float32(p) for p in proposals]
        for stage in self.stages[:-1]:
            _, deltas = _answers(stage, _pooled(stage, features, proposals, image_shapes))
            proposals = _refined(stage, deltas, proposals, image_shapes)
        last = self.stages[-1]
        pooled = _pooled(last, features, proposals, image_shapes)
        _, deltas = _answers(last, pooled)
        scores = self.log_scores(pooled)
        found = last.postprocess_detections(scores, deltas.repeat(1, scores.shape[1]), proposals, image_shapes)
        keys = ("boxes", "scores", "labels")
        return [dict(zip(keys, image, strict=True)) for image in zip(*found, strict=True)], {}

    def train_on(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: SizesHW, targets: Targets
    ) -> TrainedRegions:
        """All stages on sampled regions, each with its loss."""
        proposals, _, labels, offsets = self.stages[0].select_training_samples(
            [at_least_float32(p) for p in proposals], targets
        )
        losses: dict[str, Tensor] = {}
        pooled = deltas = None
        for index, (stage, weight) in enumerate(zip(self.stages, LOSS_WEIGHTS, strict=True)):
            if deltas is not None:
                proposals = _refined(self.stages[index - 1], deltas, proposals, image_shapes)
                labels, offsets = labelled(stage, proposals, targets)
            pooled = _pooled(stage, features, proposals, image_shapes)
            logits, deltas = _answers(stage, pooled)
            classifier, box_reg = stage_loss(logits, deltas, torch.cat(labels), torch.cat(offsets))
            losses[f"loss_classifier_{index + 1}"] = weight * classifier
            losses[f"loss_box_reg_{index + 1}"] = weight * box_reg
        assert pooled is not None
        return TrainedRegions(proposals, labels, pooled, losses)

    def pool(self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: SizesHW) -> Tensor:
        """What the heads read of given regions."""
        return _pooled(self.stages[-1], features, proposals, image_shapes)

    def log_scores(self, pooled: Tensor) -> Tensor:
        """Logarithm of the mean of the three heads' class probabilities, P×K; its softmax is that mean."""
        each = torch.stack([_answers(stage, pooled)[0].log_softmax(dim=1) for stage in self.stages])
        return each.logsumexp(dim=0) - torch.tensor(float(len(each))).log().item()


class CascadeRCNN(FasterRCNN):
    """torchvision's Faster R-CNN with a cascade of three box heads; see `CascadeHeads`."""

    def __init__(self, backbone: Any, num_classes: int, *, hidden: int = 1024, **options: Any) -> None:
        """Build it; `options` are those of FasterRCNN that do not concern the box head."""
        super().__init__(backbone, box_head=nn.Identity(), box_predictor=nn.Identity(), **options)
        pool: Any = self.roi_heads.box_roi_pool
        self.roi_heads: Any = CascadeHeads(pool, backbone.out_channels, hidden, num_classes)


def stage_loss(logits: Tensor, deltas: Tensor, labels: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy and smooth L1 of one stage, before its weight; both over the number of regions."""
    count = max(1, len(labels))
    objects = labels > 0
    box_reg = F.smooth_l1_loss(deltas[objects], offsets[objects], beta=_BETA, reduction="sum")
    return F.cross_entropy(logits, labels, reduction="sum") / count, box_reg / count


def labelled(stage: Any, regions: list[Tensor], targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
    """Compute labels (0 = background) and box offsets of refined regions, by the stage's own IoU and scale."""
    boxes = [target["boxes"].to(region.dtype) for target, region in zip(targets, regions, strict=True)]
    matched, labels = stage.assign_targets_to_proposals(regions, boxes, [target["labels"] for target in targets])
    own = [
        of_image[index] if len(of_image) else torch.zeros_like(region)
        for of_image, index, region in zip(boxes, matched, regions, strict=True)
    ]
    return labels, list(stage.box_coder.encode(own, regions))


def _pooled(stage: Any, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: SizesHW) -> Tensor:
    return stage.box_roi_pool(features, proposals, image_shapes)


def _answers(stage: Any, pooled: Tensor) -> tuple[Tensor, Tensor]:
    logits, deltas = stage.box_predictor(stage.box_head(pooled))
    return at_least_float32(logits), at_least_float32(deltas)


def _refined(stage: Any, deltas: Tensor, proposals: list[Tensor], image_shapes: SizesHW) -> list[Tensor]:
    """The next stage's regions; where they lie is no way for a gradient, as in the paper."""
    boxes = stage.box_coder.decode(deltas.detach(), proposals)[:, 0]
    parts = boxes.split([len(p) for p in proposals])
    return [clip_boxes_to_image(part, size) for part, size in zip(parts, image_shapes, strict=True)]
