"""torchvision's SSD and SSDlite: softmax over classes with background, default boxes per level.

Legend: N images, A default boxes of all levels, K class columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from kdet.detectors.batching import (
    as_dicts,
    backbone_kind,
    describe_levels,
    detections,
    grids,
    level_counts,
    make_batch,
    normalised,
    own_canvas,
    own_image_size,
    own_pixels,
    without_background,
)
from kdet.detectors.exact import exact
from kdet.detectors.plain.exact import sizes_alone
from kdet.ops.precision import full_precision
from kdet.ops.selection import Candidates, Selection
from kdet.types import Batch, Canvas, Detections, Need, Observation, Target

_HEAD = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT, Need.LOSSES})


class SsdDetector:
    """torchvision's SSD or SSDlite behind the Detector protocol.

    Its "neck" is the feature extractor: the maps that feed the heads.
    """

    family = "ssdlite"
    provides = _HEAD | {Need.FEATURES}
    predicts = True

    def __init__(self, model: SSD, class_names: Sequence[str]) -> None:
        self.model: Any = model  # torchvision's attributes carry no types
        self.architecture: tuple[str, str] = (self.family, backbone_kind(model.backbone))
        self.build_arguments: dict[str, Any] | None = None
        self.image_size = own_image_size(model)
        self.canvas: Canvas = own_canvas(model)
        self.pixels = own_pixels(model)
        self.fill = self.pixels[0]
        self.selection = Selection(
            score=self.model.score_thresh,
            best=self.model.topk_candidates,
            group="class",
            nms_iou=self.model.nms_thresh,
            detections=self.model.detections_per_img,
        )
        self.class_names = tuple(class_names)
        self.levels = describe_levels(model.backbone, model.anchor_generator)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Squeeze into the square of `image_size`, as torchvision does."""
        return make_batch(self, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Extractor; heads and the task losses only where `needs` asks for them."""
        images = self._normalised(batch, unpadded=Need.LOSSES in needs)
        features = list(self.model.backbone(images.tensors).values())
        size_hw = (int(images.tensors.shape[2]), int(images.tensors.shape[3]))
        if not needs & _HEAD:
            return Observation(levels=self.levels, input_size_hw=size_hw, features=features)
        outputs = self._answers(features)
        anchors = self._anchors(images, features)
        losses: dict[str, Tensor] = {}
        matched: list[Tensor] = []
        if needs & {Need.ASSIGNMENT, Need.LOSSES}:
            assert targets is not None, "task losses and assignment need targets"
            with full_precision(images.tensors):
                matched = [self._match(t["boxes"], a) for t, a in zip(targets, anchors, strict=True)]
                losses = self.model.compute_loss(as_dicts(targets), outputs, anchors, matched)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=features,
            class_logits=outputs["cls_logits"],
            boxes=self._decode(outputs["bbox_regression"], anchors[0]) if Need.BOXES in needs else None,
            assignment=torch.stack(matched) if matched else None,
            anchors_per_cell=tuple(self.model.anchor_generator.num_anchors_per_location()),
            cells_hw=grids(features),
            activation="softmax",
            losses=losses,
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the model's own threshold, top-k and NMS."""
        images = self._normalised(batch, unpadded=True)
        features = list(self.model.backbone(images.tensors).values())
        outputs, anchors = self._answers(features), self._anchors(images, features)
        with full_precision(images.tensors):
            return detections(self.model.postprocess_detections(outputs, anchors, images.image_sizes))

    def candidates(self, images: Tensor) -> Candidates:
        """Extractor, head and decoded boxes of normalised images N×3×H×W."""
        features = list(self.model.backbone(images).values())
        outputs = self._answers(features)
        scores = without_background(outputs["cls_logits"].softmax(-1))
        size_hw = (int(images.shape[2]), int(images.shape[3]))
        anchors = self._anchors(ImageList(images, [size_hw]), features)[0]
        counts = level_counts(features, self.model.anchor_generator.num_anchors_per_location())
        return Candidates(scores, self._decode(outputs["bbox_regression"], anchors), counts)

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits N×A×K of this head on given maps."""
        return self._answers(list(features))["cls_logits"]

    def native_state(self) -> dict[str, Tensor]:
        """torchvision's own state_dict."""
        return self.model.state_dict()

    def _answers(self, features: list[Tensor]) -> dict[str, Tensor]:
        """The heads' outputs by name, in float32 whatever the precision in which they computed them."""
        return exact(self.model.head(features))

    def _anchors(self, images: ImageList, features: Sequence[Tensor]) -> list[Tensor]:
        """Default boxes A×4 of each image, float32."""
        return self.model.anchor_generator(images, sizes_alone(features))

    def _normalised(self, batch: Batch, *, unpadded: bool) -> ImageList:
        """Unpadded: where images fill the square, without the padding to a multiple of 32, which torchvision has not.

        Not for a teacher's maps, which show all of the student's canvas.
        """
        images = normalised(self.model, batch)
        if unpadded and self.canvas == "stretch" and set(batch.sizes_hw) == {(self.image_size, self.image_size)}:
            height, width = batch.sizes_hw[0]
            images.tensors = images.tensors[..., :height, :width].contiguous(memory_format=torch.channels_last)
        return images

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Index of the object each default box is assigned to, as torchvision's forward does it."""
        if boxes.numel() == 0:
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        return self.model.proposal_matcher(box_iou(boxes, anchors))

    def _decode(self, regression: Tensor, anchors: Tensor) -> Tensor:
        """Regression N×A×4 on the default boxes A×4 of every image to boxes N×A×4."""
        flat = regression.flatten(0, 1)
        return self.model.box_coder.decode_single(flat, anchors.repeat(regression.shape[0], 1)).view_as(regression)
