"""What our own dense detectors share: from images to losses or detections, by torchvision's convention.

Legend: N images, A anchors of all levels, K class columns, P positives of the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image

from .assigning import assign_adaptively
from .exact import sizes_alone

Objects = Mapping[str, Tensor]
"""The `boxes` and `labels` of one image."""


class OneStage(Protocol):
    """What `run` needs of a model."""

    training: bool
    transform: Any
    backbone: Any
    head: Any
    anchor_generator: Any

    def compute_loss(
        self,
        targets: Sequence[Objects],
        head_outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        num_anchors_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """Losses by name."""
        ...

    def postprocess_detections(
        self,
        head_outputs: Mapping[str, Sequence[Tensor]],
        anchors: Sequence[Sequence[Tensor]],
        image_shapes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections of each image; outputs and anchors come split by level."""
        ...


class ExactAnchors(nn.Module):
    """torchvision's anchors in float32 at least, under autocast too."""

    def __init__(self, generator: AnchorGenerator) -> None:
        super().__init__()
        self.generator = generator

    def num_anchors_per_location(self) -> list[int]:
        """Anchors of a cell, by level."""
        return self.generator.num_anchors_per_location()

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors A×4 of each image."""
        return self.generator(images, sizes_alone(features))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which detections are kept: RetinaNet's defaults, with the NMS threshold of ATSS and GFL."""

    score: float = 0.05
    candidates: int = 1000
    """A level, before NMS."""
    nms_iou: float = 0.6
    detections: int = 100


class Positives(NamedTuple):
    """The anchors that have an object, and what it is."""

    mask_NA: Tensor
    boxes_P4: Tensor
    labels_P: Tensor


def run(model: OneStage, images: list[Tensor], targets: list[dict[str, Tensor]] | None) -> Any:
    """Return the losses by name in training mode, else a dictionary of boxes, scores and labels for each image."""
    if model.training:
        _require_sound(targets)
    sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    batch, resized = model.transform(images, targets)
    features = list(model.backbone(batch.tensors).values())
    outputs: dict[str, Tensor] = model.head(features)
    anchors: list[Tensor] = model.anchor_generator(batch, features)
    counts = [int(f.shape[2] * f.shape[3]) for f in features]
    if model.training:
        return model.compute_loss(resized, outputs, anchors, counts)
    by_level = {name: value.split(counts, dim=1) for name, value in outputs.items()}
    found = model.postprocess_detections(by_level, [a.split(counts) for a in anchors], batch.image_sizes)
    return model.transform.postprocess(found, batch.image_sizes, sizes)


def _require_sound(targets: list[dict[str, Tensor]] | None) -> None:
    if targets is None:
        raise ValueError("expected targets in training mode, got none")
    for index, target in enumerate(targets):
        flat = (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any(1)
        if bool(flat.any()):
            box = target["boxes"][flat][0].tolist()
            raise ValueError(f"expected boxes of positive width and height, got {box} for image {index}")


def resizer(min_size: int, max_size: int) -> GeneralizedRCNNTransform:
    """Return torchvision's resizing, padding, and normalisation by the statistics of ImageNet."""
    return GeneralizedRCNNTransform(min_size, max_size, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def assign_all(
    targets: Sequence[Objects], anchors: Sequence[Tensor], num_anchors_per_level: Sequence[int]
) -> list[Tensor]:
    """Return the object of each anchor of each image, -1 for background."""
    pairs = zip(targets, anchors, strict=True)
    return [assign_adaptively(target["boxes"], own, num_anchors_per_level) for target, own in pairs]


def positives(targets: Sequence[Objects], matched: Sequence[Tensor]) -> Positives:
    """Return the anchors with an object, in the order in which the mask selects them."""
    chosen = [own[own >= 0] for own in matched]
    return Positives(
        torch.stack(list(matched)) >= 0,
        torch.cat([target["boxes"][own] for target, own in zip(targets, chosen, strict=True)]),
        torch.cat([target["labels"][own] for target, own in zip(targets, chosen, strict=True)]),
    )


def at_labels(logits_NAK: Tensor, found: Positives, values_P: Tensor | float) -> Tensor:
    """Return a target like the logits: these values in the column of each positive's label, 0 elsewhere."""
    wanted_NAK = torch.zeros_like(logits_NAK)
    rows_PK = wanted_NAK[found.mask_NA]
    values = torch.as_tensor(values_P, dtype=rows_PK.dtype, device=rows_PK.device)
    rows_PK[torch.arange(len(rows_PK), device=rows_PK.device), found.labels_P] = values
    wanted_NAK[found.mask_NA] = rows_PK
    return wanted_NAK


def decode_levels(
    decode: Callable[[Tensor, Tensor], Tensor],
    regression: Sequence[Tensor],
    anchors: Sequence[Sequence[Tensor]],
) -> list[list[Tensor]]:
    """Return the boxes A×4 by image and level; regression is N×A×4 by level."""
    return [
        [decode(level[index], own) for level, own in zip(regression, by_level, strict=True)]
        for index, by_level in enumerate(anchors)
    ]


def best_detections(
    scores: Sequence[Tensor],
    boxes: Sequence[Sequence[Tensor]],
    image_shapes: Sequence[tuple[int, int]],
    limits: Limits,
) -> list[dict[str, Tensor]]:
    """Return the detections of each image from scores N×A×K by level and boxes A×4 by image and level."""
    return [
        _of_image([level[index] for level in scores], boxes[index], image_hw, limits)
        for index, image_hw in enumerate(image_shapes)
    ]


def _of_image(
    scores: Sequence[Tensor], boxes: Sequence[Tensor], image_hw: tuple[int, int], limits: Limits
) -> dict[str, Tensor]:
    """Threshold, the best of each level, NMS by class."""
    kept_boxes: list[Tensor] = []
    kept_scores: list[Tensor] = []
    kept_labels: list[Tensor] = []
    for scores_AK, boxes_A4 in zip(scores, boxes, strict=True):
        anchor, label = torch.where(scores_AK > limits.score)
        score = scores_AK[anchor, label]
        best = score.topk(min(limits.candidates, len(score))).indices
        kept_boxes.append(clip_boxes_to_image(boxes_A4[anchor[best]], image_hw))
        kept_scores.append(score[best])
        kept_labels.append(label[best])
    found = {"boxes": torch.cat(kept_boxes), "scores": torch.cat(kept_scores), "labels": torch.cat(kept_labels)}
    keep = batched_nms(found["boxes"], found["scores"], found["labels"], limits.nms_iou)[: limits.detections]
    return {name: value[keep] for name, value in found.items()}
