"""torchvision's one-stage detectors with shared heads: RetinaNet and FCOS.

Legend: N images, A anchors of all levels, K class columns, M objects.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet

from kdet.detectors.torchvision_parts import (
    as_dicts,
    describe_levels,
    detections,
    grids,
    make_batch,
    normalised,
    own_image_size,
)
from kdet.types import Batch, Detections, Need, Observation, Target

_HEAD = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT, Need.LOSSES})


class DenseDetector:
    """RetinaNet or FCOS of torchvision (v1, v2 or any variant) behind the Detector protocol."""

    gives = _HEAD | {Need.FEATURES}

    def __init__(self, model: RetinaNet | FCOS, class_names: Sequence[str]) -> None:
        self.family = "retinanet" if isinstance(model, RetinaNet) else "fcos"
        self.model: Any = model  # torchvision's attributes carry no types
        self.build_arguments: dict[str, Any] | None = None
        self.image_size = own_image_size(model)
        self.class_names = tuple(class_names)
        self.levels = describe_levels(model.backbone)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize by the model's own transform and pad."""
        return make_batch(self.model, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; the head and the task losses only where `needs` asks for them."""
        images = normalised(self.model, batch)
        features = list(self.model.backbone(images.tensors).values())
        size_hw = (int(images.tensors.shape[2]), int(images.tensors.shape[3]))
        if not needs & _HEAD:
            return Observation(levels=self.levels, input_size_hw=size_hw, features=features)
        outputs: dict[str, Tensor] = self.model.head(features)
        anchors: list[Tensor] = self.model.anchor_generator(images, features)
        losses: dict[str, Tensor] = {}
        assignment = None
        if needs & {Need.ASSIGNMENT, Need.LOSSES}:
            assert targets is not None, "task losses and assignment need targets"
            with self._assignments() as seen:
                losses = self._losses(targets, outputs, anchors, features)
            assignment = torch.stack(seen)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=features,
            class_logits=outputs["cls_logits"],
            quality_logits=outputs["bbox_ctrness"].squeeze(-1) if self.family == "fcos" else None,
            boxes=self._decode(outputs["bbox_regression"], anchors) if Need.BOXES in needs else None,
            assignment=assignment,
            anchors_per_cell=tuple(self.model.anchor_generator.num_anchors_per_location()),
            cells_hw=grids(features),
            losses=losses,
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the model's own threshold, top-k and NMS."""
        images = normalised(self.model, batch)
        features = list(self.model.backbone(images.tensors).values())
        outputs: dict[str, Tensor] = self.model.head(features)
        anchors: list[Tensor] = self.model.anchor_generator(images, features)
        per_cell = self.model.anchor_generator.num_anchors_per_location()
        counts = [h * w * a for (h, w), a in zip(grids(features), per_cell, strict=True)]
        split = {name: list(value.split(counts, dim=1)) for name, value in outputs.items()}
        split_anchors = [list(a.split(counts)) for a in anchors]
        return detections(self.model.postprocess_detections(split, split_anchors, images.image_sizes))

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits N×A×K of this head on given neck outputs."""
        return self.model.head(list(features))["cls_logits"]

    def native_state(self) -> dict[str, Tensor]:
        """torchvision's own state_dict."""
        return self.model.state_dict()

    def _losses(
        self, targets: Sequence[Target], outputs: dict[str, Tensor], anchors: list[Tensor], features: list[Tensor]
    ) -> dict[str, Tensor]:
        if self.family == "fcos":
            cells = [h * w for h, w in grids(features)]
            return self.model.compute_loss(as_dicts(targets), outputs, anchors, cells)
        return self.model.compute_loss(as_dicts(targets), outputs, anchors)

    @contextmanager
    def _assignments(self) -> Generator[list[Tensor]]:
        """Collect the label assignment that torchvision computes inside `compute_loss` and hands to its head."""
        head = self.model.head
        compute_loss = head.compute_loss
        seen: list[Tensor] = []

        def watched(
            targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor], matched: list[Tensor]
        ) -> dict[str, Tensor]:
            seen.extend(matched)
            return compute_loss(targets, outputs, anchors, matched)

        head.compute_loss = watched
        try:
            yield seen
        finally:
            del head.compute_loss  # the instance's attribute; the class's method is there again

    def _decode(self, regression: Tensor, anchors: list[Tensor]) -> Tensor:
        """Regression N×A×4 to boxes, in float32."""
        coder = self.model.box_coder
        pairs = zip(regression.float(), anchors, strict=True)
        if self.family == "fcos":
            return torch.stack([coder.decode(r, a) for r, a in pairs])
        return torch.stack([coder.decode_single(r, a) for r, a in pairs])
