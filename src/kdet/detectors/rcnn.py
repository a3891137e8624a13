"""torchvision's Faster R-CNN: features of its pyramid, and class scores on sampled or given regions.

Legend: N images, P sampled regions of the whole batch, K class columns.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss

from kdet.detectors.torchvision_parts import (
    as_dicts,
    describe_levels,
    detections,
    make_batch,
    normalised,
    own_image_size,
)
from kdet.errors import InputError
from kdet.types import Batch, Detections, Need, Observation, SizeHW, Target


class RcnnDetector:
    """torchvision's Faster R-CNN behind the Detector protocol.

    It has no dense class scores: rank mimicking and prediction-guided imitation have nothing to read here.
    """

    family = "faster_rcnn"
    gives = frozenset({Need.FEATURES, Need.PROPOSALS, Need.LOSSES})

    def __init__(self, model: FasterRCNN, class_names: Sequence[str]) -> None:
        self.model: Any = model  # torchvision's attributes carry no types
        self.build_arguments: dict[str, Any] | None = None
        self.image_size = own_image_size(model)
        self.class_names = tuple(class_names)
        self.levels = describe_levels(model.backbone)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize by the model's own transform and pad."""
        return make_batch(self.model, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; with losses or proposals also RPN, sampling and the box head (training mode)."""
        images = normalised(self.model, batch)
        maps: dict[str, Tensor] = self.model.backbone(images.tensors)
        size_hw = (int(images.tensors.shape[2]), int(images.tensors.shape[3]))
        if not needs & {Need.PROPOSALS, Need.LOSSES}:
            return Observation(levels=self.levels, input_size_hw=size_hw, features=list(maps.values()))
        assert targets is not None, "task losses and sampled regions need targets"
        return self._with_regions(images, maps, as_dicts(targets), size_hw)

    def _with_regions(
        self, images: ImageList, maps: dict[str, Tensor], targets: list[dict[str, Tensor]], size_hw: SizeHW
    ) -> Observation:
        heads = self.model.roi_heads
        if heads.has_mask() or heads.has_keypoint():
            raise InputError(
                f"a {type(self.model).__name__} cannot be trained here: kdet trains boxes alone and would forget the "
                "rest; use it as a teacher, and a FasterRCNN as the student"
            )
        proposals, rpn_losses = self.model.rpn(images, maps, targets)
        proposals, _, labels, regression = heads.select_training_samples(proposals, targets)
        pooled = heads.box_roi_pool(maps, proposals, images.image_sizes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        classifier, box_reg = fastrcnn_loss(logits, deltas, labels, regression)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=list(maps.values()),
            activation="softmax",
            losses={"loss_classifier": classifier, "loss_box_reg": box_reg, **rpn_losses},
            proposals=list(proposals),
            proposal_labels=list(labels),
            proposal_logits=logits,
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the model's own post-processing (evaluation mode)."""
        images = normalised(self.model, batch)
        maps: dict[str, Tensor] = self.model.backbone(images.tensors)
        proposals, _ = self.model.rpn(images, maps, None)
        found, _ = self.model.roi_heads(maps, proposals, images.image_sizes, None)
        return detections(found)

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits P×K of this box head on given regions of given neck outputs."""
        assert proposals is not None, "a two-stage head reads proposals"
        maps = dict(zip((level.name for level in self.levels), features, strict=True))
        # The pooler's level rule needs the image size only through the ratio of map to image: the maps' own.
        height, width = (int(side) * self.levels[0].stride for side in features[0].shape[2:])
        heads = self.model.roi_heads
        pooled = heads.box_roi_pool(maps, list(proposals), [(height, width)] * len(proposals))
        return heads.box_predictor(heads.box_head(pooled))[0]

    def native_state(self) -> dict[str, Tensor]:
        """torchvision's own state_dict."""
        return self.model.state_dict()
