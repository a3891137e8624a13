"""One-stage detectors with shared heads: torchvision's RetinaNet and FCOS, and kdet's own ATSS and GFL.

Legend: N images, A anchors of all levels, K class columns, M objects.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

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
)
from kdet.detectors.exact import exact
from kdet.detectors.plain.exact import sizes_alone
from kdet.detectors.plain.towers import rows
from kdet.detectors.torchvision.dense_families import DenseFamily
from kdet.detectors.torchvision.head_features import finish, revealed
from kdet.ops.precision import full_precision
from kdet.ops.selection import Candidates, Selection
from kdet.types import Batch, Canvas, Detections, HeadFeatures, Need, Observation, Target


class DenseDetector:
    """RetinaNet or FCOS of torchvision (v1, v2 or any variant), ATSS or GFL behind the Detector protocol."""

    predicts = True

    def __init__(self, model: nn.Module, class_names: Sequence[str], family: DenseFamily) -> None:
        self.family = family.name
        self.provides = family.provides
        self._family = family
        self.model: Any = model  # torchvision's attributes carry no types
        self.architecture: tuple[str, str] = (self.family, backbone_kind(self.model.backbone))
        self.build_arguments: dict[str, Any] | None = None
        self.image_size = own_image_size(model)
        self.canvas: Canvas = own_canvas(model)
        self.pixels = own_pixels(model)
        self.fill = self.pixels[0]
        self.class_names = tuple(class_names)
        self.levels = describe_levels(self.model.backbone, self.model.anchor_generator)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to `image_size`, or in training to one of the model's own sizes, on its canvas."""
        return make_batch(self, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; the head and the task losses only where `needs` asks for them."""
        images = normalised(self.model, batch)
        features = list(self.model.backbone(images.tensors).values())
        size_hw = (int(images.tensors.shape[2]), int(images.tensors.shape[3]))
        if needs <= {Need.FEATURES}:
            return Observation(levels=self.levels, input_size_hw=size_hw, features=features)
        with revealed(self.model.head, Need.HEAD_FEATURES in needs) as hidden:
            outputs = self._answers(features)
        anchors = self._anchors(images, features)  # the same for every image
        losses: dict[str, Tensor] = {}
        assignment = None
        if needs & {Need.ASSIGNMENT, Need.LOSSES}:
            assert targets is not None, "task losses and assignment need targets"
            with self._assignments() as seen, full_precision(images.tensors):
                losses = self._losses(targets, outputs, anchors, features)
            assignment = torch.stack(seen)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=features,
            class_logits=outputs["cls_logits"],
            quality_logits=_quality(outputs),
            boxes=self._decode(outputs["bbox_regression"], anchors[0]) if Need.BOXES in needs else None,
            edge_logits=outputs.get("edge_logits"),
            assignment=assignment,
            anchors_per_cell=tuple(self.model.anchor_generator.num_anchors_per_location()),
            cells_hw=grids(features),
            losses=losses,
            head_features=tuple(hidden),
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the model's own threshold, top-k and NMS."""
        images = normalised(self.model, batch)
        features = list(self.model.backbone(images.tensors).values())
        counts = list(level_counts(features, self.model.anchor_generator.num_anchors_per_location()))
        split = {name: list(value.split(counts, dim=1)) for name, value in self._answers(features).items()}
        split_anchors = [list(a.split(counts)) for a in self._anchors(images, features)]
        with full_precision(images.tensors):
            return detections(self.model.postprocess_detections(split, split_anchors, images.image_sizes))

    @property
    def selection(self) -> Selection:
        """The model's own threshold, top-k and NMS."""
        return self._family.selection(self.model)

    def candidates(self, images: Tensor) -> Candidates:
        """Backbone, neck, head and decoded boxes of normalised images N×3×H×W."""
        features = list(self.model.backbone(images).values())
        outputs = self._answers(features)
        scores, quality = outputs["cls_logits"].sigmoid(), _quality(outputs)
        if quality is not None:
            scores = (scores * quality.sigmoid()[..., None]).sqrt()
        size_hw = (int(images.shape[2]), int(images.shape[3]))
        anchors = self._anchors(ImageList(images, [size_hw]), features)[0]
        boxes = self._decode(outputs["bbox_regression"], anchors)
        return Candidates(scores, boxes, level_counts(features, self.model.anchor_generator.num_anchors_per_location()))

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits N×A×K of this head on given neck outputs."""
        return self._answers(list(features))["cls_logits"]

    def finish_head(self, hidden: HeadFeatures, after: int, own: Observation) -> Observation:
        """Logits and boxes of this head's rest on given maps before the activation of its `after`-th hidden layer."""
        classifier, regressor = self.model.head.classification_head, self.model.head.regression_head
        class_maps = finish(classifier.conv, hidden.classes, after)
        outputs = exact(self._family.predict_boxes(regressor, finish(regressor.conv, hidden.boxes, after)))
        assert own.features is not None
        pixels = own.features[0].new_zeros(()).expand(1, 3, *own.input_size_hw)  # only their size is read
        anchors = self._anchors(ImageList(pixels, [own.input_size_hw]), own.features)[0]
        return replace(
            own,
            class_logits=exact(rows([classifier.cls_logits(m) for m in class_maps], classifier.num_classes)),
            quality_logits=_quality(outputs),
            boxes=self._decode(outputs["bbox_regression"], anchors),
            edge_logits=outputs.get("edge_logits"),
        )

    def native_state(self) -> dict[str, Tensor]:
        """The bare model's own state_dict."""
        return self.model.state_dict()

    def _losses(
        self, targets: Sequence[Target], outputs: dict[str, Tensor], anchors: list[Tensor], features: list[Tensor]
    ) -> dict[str, Tensor]:
        cells = [[h * w for h, w in grids(features)]] if self._family.loss_takes_cells else []
        return self.model.compute_loss(as_dicts(targets), outputs, anchors, *cells)

    @contextmanager
    def _assignments(self) -> Generator[list[Tensor]]:
        """Collect the label assignment that the model computes inside `compute_loss` and hands to its head."""
        head = self.model.head
        compute_loss = head.compute_loss
        seen: list[Tensor] = []

        def watched(targets: Any, outputs: Any, anchors: Any, matched: list[Tensor], *rest: Any) -> dict[str, Tensor]:
            seen.extend(matched)
            return compute_loss(targets, outputs, anchors, matched, *rest)

        head.compute_loss = watched
        try:
            yield seen
        finally:
            del head.compute_loss  # the instance's attribute; the class's method is there again

    def _answers(self, features: list[Tensor]) -> dict[str, Tensor]:
        """The head's outputs by name, in float32 whatever the precision in which it computed them."""
        return exact(self.model.head(features))

    def _anchors(self, images: ImageList, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors A×4 of each image, float32."""
        return self.model.anchor_generator(images, sizes_alone(features))

    def _decode(self, regression: Tensor, anchors: Tensor) -> Tensor:
        """Regression N×A×4 on the anchors A×4 of every image to boxes N×A×4."""
        flat = self._family.decode(self.model, regression.flatten(0, 1), anchors.repeat(regression.shape[0], 1))
        return flat.view_as(regression)


@dataclass(frozen=True)
class Dense:
    """Makes the adapters of one family."""

    family: DenseFamily

    @property
    def provides(self) -> frozenset[Need]:
        """What they reveal."""
        return self.family.provides

    def __call__(self, model: nn.Module, class_names: Sequence[str]) -> DenseDetector:
        """The adapter of one model."""
        return DenseDetector(model, class_names, self.family)


def _quality(outputs: Mapping[str, Tensor]) -> Tensor | None:
    """Centreness N×A of the heads that have it."""
    return outputs["bbox_ctrness"].squeeze(-1) if "bbox_ctrness" in outputs else None
