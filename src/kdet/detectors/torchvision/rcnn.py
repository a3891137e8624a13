"""Faster R-CNN and Cascade R-CNN: features of the pyramid, and class scores on sampled or given regions.

Legend: N images, P sampled regions of the whole batch, K class columns.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss

from kdet.detectors.batching import (
    as_dicts,
    backbone_kind,
    describe_levels,
    detections,
    make_batch,
    normalised,
    own_canvas,
    own_image_size,
    own_pixels,
)
from kdet.detectors.exact import exact, laying_exactly, saying_exactly
from kdet.detectors.plain import CascadeHeads
from kdet.detectors.torchvision.rcnn_candidates import candidates_of, selection_of
from kdet.errors import InputError
from kdet.ops.selection import Candidates, Selection
from kdet.types import Batch, Canvas, Detections, Need, Observation, SizeHW, Target


class RcnnDetector:
    """Faster R-CNN or Cascade R-CNN behind the Detector protocol.

    They have no dense class scores: rank mimicking and prediction-guided imitation have nothing to read here.
    A cascade shows the regions of its last stage, for it is their scores that become detections; their logits are
    the logarithm of the three heads' mean probability, as its test-time scores are.
    """

    provides = frozenset({Need.FEATURES, Need.PROPOSALS, Need.LOSSES})
    predicts = True

    def __init__(self, model: FasterRCNN, class_names: Sequence[str]) -> None:
        self.family = "cascade_rcnn" if isinstance(model.roi_heads, CascadeHeads) else "faster_rcnn"
        self.model: Any = model  # torchvision's attributes carry no types
        self.architecture: tuple[str, str] = (self.family, backbone_kind(model.backbone))
        self.build_arguments: dict[str, Any] | None = None
        self.image_size = own_image_size(model)
        self.canvas: Canvas = own_canvas(model)
        self.pixels = own_pixels(model)
        self.fill = self.pixels[0]
        self.class_names = tuple(class_names)
        self.levels = describe_levels(model.backbone)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to `image_size`, or in training to one of the model's own sizes, on its canvas."""
        return make_batch(self, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; with losses or proposals also RPN, sampling and the box head (training mode)."""
        images = normalised(self.model, batch)
        maps: dict[str, Tensor] = self.model.backbone(images.tensors)
        size_hw = (int(images.tensors.shape[2]), int(images.tensors.shape[3]))
        if not needs & {Need.PROPOSALS, Need.LOSSES}:
            return Observation(levels=self.levels, input_size_hw=size_hw, features=list(maps.values()))
        assert targets is not None, "task losses and sampled regions need targets"
        return self._with_regions(images, maps, as_dicts(targets), size_hw)

    @contextmanager
    def _exact_regions(self) -> Generator[None]:
        """Anchors, regions, offsets and logits are float32 meanwhile, and with them the objects that regions meet.

        torchvision lays anchors in the maps' precision, decodes in that of the offsets, and brings objects to that of
        the regions. RoIAlign is safe: under autocast it computes in float32.
        """
        rpn, heads = self.model.rpn, self.model.roi_heads
        stages: Sequence[Any] = heads.stages if isinstance(heads, CascadeHeads) else [heads]
        predictors = [stage.box_predictor for stage in stages]
        with laying_exactly(rpn.anchor_generator), saying_exactly([rpn.head, *predictors]):
            yield

    def _with_regions(
        self, images: ImageList, maps: dict[str, Tensor], targets: list[dict[str, Tensor]], size_hw: SizeHW
    ) -> Observation:
        heads = self.model.roi_heads
        is_cascade = isinstance(heads, CascadeHeads)
        if not is_cascade and (heads.has_mask() or heads.has_keypoint()):
            raise InputError(
                f"a {type(self.model).__name__} cannot be trained here: kdet trains boxes alone and would forget the "
                "rest; use it as a teacher, and a FasterRCNN as the student"
            )
        with self._exact_regions():
            proposals, rpn_losses = self.model.rpn(images, maps, targets)
            seen = (_cascade if is_cascade else _one_head)(heads, maps, proposals, images, targets)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=list(maps.values()),
            activation="softmax",
            losses=seen.losses | rpn_losses,
            proposals=seen.proposals,
            proposal_labels=seen.labels,
            proposal_logits=seen.logits,
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the model's own post-processing (evaluation mode)."""
        images = normalised(self.model, batch)
        maps: dict[str, Tensor] = self.model.backbone(images.tensors)
        with self._exact_regions():
            proposals, _ = self.model.rpn(images, maps, None)
            found, _ = self.model.roi_heads(maps, proposals, images.image_sizes, None)
        return detections(found)

    @property
    def selection(self) -> Selection:
        """The box head's own threshold and NMS."""
        return selection_of(self.model)

    def candidates(self, images: Tensor) -> Candidates:
        """Regions with their scores and a box for each class, of normalised images N×3×H×W (evaluation mode)."""
        with self._exact_regions():
            return candidates_of(self.model, self.levels, images)

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits P×K of this box head on given regions of given neck outputs; of a cascade, log-probabilities."""
        assert proposals is not None, "a two-stage head reads proposals"
        maps = dict(zip((level.name for level in self.levels), features, strict=True))
        # The pooler's level rule needs the image size only through the ratio of map to image: the maps' own.
        height, width = (int(side) * self.levels[0].stride for side in features[0].shape[2:])
        heads = self.model.roi_heads
        sizes = [(height, width)] * len(proposals)
        if isinstance(heads, CascadeHeads):
            return heads.log_scores(heads.pool(maps, list(proposals), sizes))
        return exact(heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, list(proposals), sizes)))[0])

    def native_state(self) -> dict[str, Tensor]:
        """torchvision's own state_dict."""
        return self.model.state_dict()


class _Regions(NamedTuple):
    proposals: list[Tensor]
    labels: list[Tensor]
    logits: Tensor
    losses: dict[str, Tensor]


def _one_head(
    heads: Any, maps: dict[str, Tensor], proposals: list[Tensor], images: ImageList, targets: list[dict[str, Tensor]]
) -> _Regions:
    """Sampled regions of torchvision's RoIHeads."""
    proposals, _, labels, regression = heads.select_training_samples(proposals, targets)
    pooled = heads.box_roi_pool(maps, proposals, images.image_sizes)
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    classifier, box_reg = fastrcnn_loss(logits, deltas, labels, regression)
    losses = {"loss_classifier": classifier, "loss_box_reg": box_reg}
    return _Regions(list(proposals), list(labels), logits, losses)


def _cascade(
    heads: Any, maps: dict[str, Tensor], proposals: list[Tensor], images: ImageList, targets: list[dict[str, Tensor]]
) -> _Regions:
    """The last stage's regions, scored by all three heads as at test time."""
    trained = heads.train_on(maps, proposals, images.image_sizes, targets)
    return _Regions(trained.proposals, trained.labels, heads.log_scores(trained.pooled), trained.losses)
