"""libreyolo's detectors that predict a set of boxes: RT-DETRv2, RT-DETRv4 and D-FINE.

Legend: N images, Q queries, K class columns, C channels, H W height and width.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_convert

from kdet.detectors.batching import make_batch, normalised
from kdet.detectors.hf.query_precision import exact_boxes
from kdet.detectors.yolo.selecting import choose
from kdet.errors import InputError
from kdet.ops.precision import full_precision
from kdet.ops.selection import Candidates, Selection
from kdet.types import Batch, Canvas, Detections, Level, Need, Observation, Target

MakeLoss = Callable[[int, torch.device], Any]
"""(number of classes, device) → the library's criterion."""
_LAYER = re.compile(r"(_aux|_dn|_enc|_pre)?(_pre)?(_\d+)?$")
"""What a part of the loss is called by the layer that it belongs to."""


class LibreDetrDetector:
    """One of these modules behind the Detector protocol."""

    predicts = True
    canvas: Canvas = "stretch"
    provides = frozenset({Need.FEATURES, Need.MEMORY, Need.QUERIES, Need.LOSSES})
    pixels: tuple[Sequence[float], Sequence[float]] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    fill = pixels[0]
    selection = Selection(score=0.001, best=300, group="image", nms_iou=None, detections=300, clip=False)

    def __init__(self, family: str, model: Any, class_names: Sequence[str], make_loss: MakeLoss) -> None:
        self.family = family
        self.model: Any = model  # libreyolo's attributes carry no types
        self.architecture: tuple[str, str] = (family, type(model.backbone).__name__)
        self.class_names = tuple(class_names)
        self.build_arguments: dict[str, Any] | None = None
        self.image_size: int | tuple[int, int] = 640
        self.levels = tuple(
            Level(str(i), int(model.encoder.hidden_dim), int(stride))
            for i, stride in enumerate(model.encoder.feat_strides)
        )
        self._make_loss = make_loss
        self._loss: tuple[torch.device, Any] | None = None

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Squeeze into the square of `image_size`, as the library does."""
        return make_batch(self, images, targets)

    @property
    def transform(self) -> GeneralizedRCNNTransform:
        """torchvision's resizing with this detector's numbers."""
        short, limit = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        return GeneralizedRCNNTransform(short, limit, list(self.pixels[0]), list(self.pixels[1]))

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and encoder; the decoder only for queries and task losses."""
        images = normalised(self, batch).tensors
        features = self._neck(images)
        logits = boxes = None
        losses: dict[str, Tensor] = {}
        if not needs <= {Need.FEATURES, Need.MEMORY}:
            labels = None
            if Need.LOSSES in needs:
                assert targets is not None, "task losses need targets"
                labels = [
                    {"labels": t["labels"], "boxes": box_convert(t["boxes"], "xyxy", "cxcywh") / _frame(images)}
                    for t in targets
                ]
            output = self._decoded(features, labels)
            logits, boxes = output["pred_logits"], _pixels(output["pred_boxes"], images)
            if labels is not None:
                with full_precision(images):
                    losses = _summed(self._criterion(images.device)(output, labels))
        return Observation(
            levels=self.levels,
            input_size_hw=(int(images.shape[2]), int(images.shape[3])),
            features=features,
            losses=losses,
            query_logits=logits,
            query_boxes=boxes,
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """The best 300 over queries and classes."""
        return choose(self.candidates(normalised(self, batch).tensors), self.selection, batch.sizes_hw)

    def candidates(self, images: Tensor) -> Candidates:
        """Scores N×Q×K and boxes N×Q×4 (evaluation mode)."""
        output = self._decoded(self._neck(images), None)
        scores = output["pred_logits"].sigmoid()
        return Candidates(scores=scores, boxes=_pixels(output["pred_boxes"], images), counts=(int(scores.shape[1]),))

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Refuse: the decoder finds its queries for itself.

        Raises:
            InputError: always.
        """
        raise InputError(f"the decoder of a {self.family} finds its queries for itself; use structural or detrdistill")

    def native_state(self) -> dict[str, Tensor]:
        """The library's own state_dict."""
        return self.model.state_dict()

    def _neck(self, images: Tensor) -> list[Tensor]:
        return list(self.model.encoder(self.model.backbone(images)))

    def _decoded(self, features: list[Tensor], labels: list[dict[str, Tensor]] | None) -> Any:
        """The decoder's answer by name; logits and boxes are float32."""
        with exact_boxes(self.model.decoder):
            return self.model.decoder(features, targets=labels)

    def _criterion(self, device: torch.device) -> Any:
        if self._loss is None or self._loss[0] != device:
            self._loss = device, self._make_loss(len(self.class_names), device)
        return self._loss[1]


def _frame(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)


def _pixels(boxes: Tensor, images: Tensor) -> Tensor:
    """Fractions of the input, centre and size, as corners in pixels."""
    return box_convert(boxes, "cxcywh", "xyxy") * _frame(images)


def _summed(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weighted parts of the loss, those of all layers added up."""
    parts: dict[str, Tensor] = {}
    for name, value in found.items():
        if name != "total_loss" and isinstance(value, Tensor):
            kind = _LAYER.sub("", name)
            parts[kind] = parts[kind] + value if kind in parts else value
    return parts
