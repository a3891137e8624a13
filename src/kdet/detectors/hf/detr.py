"""Hugging Face's detectors that predict a set of boxes: DETR and its descendants.

Legend: N images, Q queries, K class columns, C channels, H W height and width.
"""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_convert

from kdet.detectors.batching import make_batch, normalised
from kdet.detectors.hf.families import FAMILIES, Family, NeckReached, neck_maps, own_queries
from kdet.detectors.hf.query_decoders import Heard, answered, asking_of, listening, own_queries_of, query_form
from kdet.detectors.hf.query_precision import exact_boxes
from kdet.errors import InputError
from kdet.ops.randomness import seeded
from kdet.ops.selection import Candidates, Selection
from kdet.types import Batch, Canvas, Detections, Level, Need, Observation, QueryDecoder, SizeHW, Target

Pixels = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of the three colours that the model was made with."""

IMAGENET: Pixels = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AS_THEY_ARE: Pixels = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

MOST = 100
"""Detections of an image, as COCO counts them."""

_NECK = {Need.FEATURES, Need.MEMORY}
"""What is there before the decoder runs."""

_LAYER = re.compile(r"(_aux|_dn|_enc)?(_\d+)?(_enc)?$")
"""What a part of the loss is called by the layer that it belongs to."""


class DetrDetector:
    """A detection model of transformers behind the Detector protocol; `kdet.detectors.hf.families` has the types."""

    family = "hf"
    predicts = True

    def __init__(
        self,
        model: Any,
        class_names: Sequence[str],
        *,
        image_size: int | tuple[int, int] | None = None,
        pixels: Pixels | None = None,
        canvas: Canvas | None = None,
    ) -> None:
        """Read what the model says of itself.

        Args:
            model: of one of the types in FAMILIES.
            class_names: one per column of its class layer.
            image_size: None = what its image processor resizes to.
            pixels: None = those of its family.
            canvas: None = that of its family.
        """
        self.model: Any = model  # transformers' attributes carry no types
        self.build_arguments: dict[str, Any] | None = None
        self.class_names = tuple(class_names)
        self._family = FAMILIES[model.config.model_type]
        self._asking = asking_of(model.config, self._family.asking)
        self.provides = self._family.provides - (set[Need]() if self._asking else {Need.DECODER})
        self.query_form = query_form(model.config, self._asking)
        self.architecture: tuple[str, str] = (str(model.config.model_type), _backbone_kind(model.config))
        self.pixels = pixels or (IMAGENET if self._family.normalises else AS_THEY_ARE)
        self.fill = self.pixels[0]
        self.image_size = image_size or self._family.image_size
        self.canvas: Canvas = canvas or self._family.canvas
        short, limit = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        self.transform = GeneralizedRCNNTransform(short, limit, list(self.pixels[0]), list(self.pixels[1]))
        self.levels = describe_levels(model, self._family)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to the model's input size, on its canvas."""
        return make_batch(self, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; the decoder only for queries and task losses."""
        with_losses = Need.LOSSES in needs
        labels = None
        if with_losses:
            assert targets is not None, "task losses need targets"
            labels = self._labels(batch, targets)
        output = None
        stop, (height, width), inner = needs <= _NECK, self._padded(_size(batch)), _size(batch)
        shown = inner[0] / height, inner[1] / width
        with (
            neck_maps(self.model, self._family, stop=stop, shown=shown) as features,
            listening(self.model, self._asking if Need.DECODER in needs else None) as heard,
            suppress(NeckReached),
        ):
            output = self._forward(batch, labels)
        logits, boxes = (None, None) if output is None else self._queries(output, batch)
        return Observation(
            levels=self.levels,
            input_size_hw=_size(batch),
            features=features,
            activation=self._family.activation,
            losses=self._parts(output["loss_dict"]) if with_losses and output is not None else {},
            query_logits=logits,
            query_boxes=boxes,
            decoder=self._decoder(heard, output, batch) if Need.DECODER in needs else None,
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """The best 100: of a sigmoid head over queries and classes, of a softmax head over queries."""
        logits, boxes = self._queries(self._forward(batch, None), batch)
        if self._family.activation == "softmax":
            scores, labels = logits.float().softmax(-1)[..., :-1].max(-1, keepdim=True)
        else:
            scores = logits.float().sigmoid()
            labels = torch.arange(scores.shape[2], device=scores.device).expand_as(scores)
        return [_best(scores[i], labels[i], _inside(boxes[i], size_hw)) for i, size_hw in enumerate(batch.sizes_hw)]

    @property
    def selection(self) -> Selection:
        """The best of all queries and classes; a query answers for one object, so that nothing overlaps."""
        return Selection(score=0.0, best=None, group="image", nms_iou=None, detections=MOST)

    def candidates(self, images: Tensor) -> Candidates:
        """Queries of normalised images N×3×H×W that have no padding."""
        output = self._run(images, torch.ones_like(images[:, 0], dtype=torch.int64), None)
        own = own_queries(output, _num_queries(self.model.config))
        logits, boxes = own(output["logits"]).float(), box_convert(own(output["pred_boxes"]).float(), "cxcywh", "xyxy")
        if self._family.activation == "softmax":
            scores = logits.softmax(-1)[..., :-1]
            best = torch.arange(scores.shape[2], device=scores.device) == scores.argmax(-1, keepdim=True)
            scores = torch.where(best, scores, 0.0)  # a query has one class
        else:
            scores = logits.sigmoid()
        height, width = (float(side) for side in images.shape[2:])
        return Candidates(scores, boxes * boxes.new_tensor([width, height] * 2), (int(boxes.shape[1]),))

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Refuse: the decoder finds its queries for itself.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"a {type(self.model).__name__} has no head that scores given features or regions; use structural or lp on "
            "its features, or detrdistill on its queries"
        )

    def native_state(self) -> dict[str, Tensor]:
        """transformers' own state_dict; tensors that two names share are written twice, so that either way loads."""
        state: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, tensor in self.model.state_dict().items():
            state[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
            seen.add(tensor.data_ptr())
        return state

    def _forward(self, batch: Batch, labels: list[dict[str, Tensor]] | None) -> Any:
        pixels = normalised(self, batch).tensors.contiguous()  # dropout draws in the order of memory
        mask = torch.zeros(len(pixels), *pixels.shape[2:], dtype=torch.int64, device=pixels.device)
        for row, (h, w) in zip(mask, batch.sizes_hw, strict=True):
            row[:h, :w] = 1
        return self._run(pixels, mask, labels)

    def _run(self, pixels: Tensor, mask: Tensor, labels: list[dict[str, Tensor]] | None) -> Any:
        height, width = self._padded((int(pixels.shape[2]), int(pixels.shape[3])))
        beyond = (0, width - pixels.shape[3], 0, height - pixels.shape[2])
        with exact_boxes(self.model):
            return self.model(pixel_values=F.pad(pixels, beyond), pixel_mask=F.pad(mask, beyond), labels=labels)

    def _padded(self, size_hw: SizeHW) -> SizeHW:
        """The input's size with the further padding that the model cannot do without."""
        multiple = _multiple(self.model.config)
        height, width = (math.ceil(side / multiple) * multiple for side in size_hw)
        longer = max(height, width)
        return (longer, longer) if self._family.square else (height, width)

    def _queries(self, output: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits N×Q×K and boxes N×Q×4 in pixels."""
        own = own_queries(output, _num_queries(self.model.config))
        boxes = box_convert(own(output["pred_boxes"]).float(), "cxcywh", "xyxy")
        return own(output["logits"]), boxes * self._frames(batch)[:, None]

    def _decoder(self, heard: Heard, output: Any, batch: Batch) -> QueryDecoder:
        asking, frames = self._asking, self._frames(batch)[:, None]
        assert asking is not None

        def answer(queries: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            with exact_boxes(self.model):
                logits, boxes = answered(self.model, asking, heard, queries)
            return logits, box_convert(boxes.float(), "cxcywh", "xyxy") * frames

        own = own_queries_of(asking, heard, output, _num_queries(self.model.config))
        return QueryDecoder(queries=own, answer=answer)

    def _labels(self, batch: Batch, targets: Sequence[Target]) -> list[dict[str, Tensor]]:
        """Targets as transformers takes them."""
        return [
            {"class_labels": target["labels"], "boxes": box_convert(target["boxes"], "xyxy", "cxcywh") / frame}
            for target, frame in zip(targets, self._frames(batch), strict=True)
        ]

    def _frames(self, batch: Batch) -> Tensor:
        """Width and height, twice, of what the model's boxes are fractions of; N×4."""
        sizes = batch.sizes_hw if self._family.reads_mask else [_size(batch)] * len(batch.images)
        return torch.tensor([[w, h, w, h] for h, w in sizes], dtype=torch.float32, device=batch.images.device)

    def _parts(self, loss_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts of the model's loss, weighted as it does, those of all its layers added up."""
        config, parts = self.model.config, dict[str, Tensor]()
        weights = {"loss_ce": getattr(config, "class_loss_coefficient", 1)}
        weights |= {f"loss_{key}": getattr(config, f"{key}_loss_coefficient", 1) for key in ("bbox", "giou")}
        for name, value in loss_dict.items():
            kind = _LAYER.sub("", name)
            if not self._family.weighted_losses and kind not in weights:
                continue  # statistics beside the losses
            part = value if self._family.weighted_losses else weights[kind] * value
            parts[kind] = parts[kind] + part if kind in parts else part
        return parts


def describe_levels(model: Any, family: Family) -> tuple[Level, ...]:
    """Return channels and strides of the neck's maps, from a small empty image: transformers looks at values.

    Neither mode, weights, statistics nor random numbers change.
    """
    side = math.lcm(64, _multiple(model.config))
    side *= math.ceil(256 / side)
    image = torch.zeros(1, 3, side, side, device=model.device)
    named = {"pixel_values": image, "pixel_mask": image[:, 0].long() + 1}
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with (
        torch.no_grad(),
        seeded(0, device=model.device),
        neck_maps(model, family, stop=True) as maps,
        suppress(NeckReached),
    ):
        torch.func.functional_call(model, kept, (), named)
    return tuple(Level(str(i), int(m.shape[1]), round(side / m.shape[3])) for i, m in enumerate(maps))


def _backbone_kind(config: Any) -> str:
    """Its type, and of timm's, which are all of one type, the name without the size."""
    backbone = getattr(config, "backbone_config", None)
    name = str(getattr(backbone, "backbone", None) or getattr(config, "backbone", None) or "")
    return f"{getattr(backbone, 'model_type', '')} {name.rstrip('0123456789')}".strip()


def _size(batch: Batch) -> SizeHW:
    return int(batch.images.shape[2]), int(batch.images.shape[3])


def _num_queries(config: Any) -> int:
    """Those of Deformable DETR in two stages are its proposals."""
    return config.two_stage_num_proposals if getattr(config, "two_stage", False) else config.num_queries


def _multiple(config: Any) -> int:
    """Transformer backbones cut the image into patches, and these into windows; both must come out even."""
    backbone = getattr(config, "backbone_config", None)
    windows = getattr(backbone, "num_windows_side", None) or getattr(backbone, "num_windows", 1)
    return getattr(backbone, "patch_size", 1) * windows


def _inside(boxes_Q4: Tensor, size_hw: SizeHW) -> Tensor:
    height, width = size_hw
    return boxes_Q4.clamp_min(0).minimum(boxes_Q4.new_tensor([width, height, width, height]))


def _best(scores_QK: Tensor, labels_QK: Tensor, boxes_Q4: Tensor) -> Detections:
    scores, flat = scores_QK.flatten().topk(min(MOST, scores_QK.numel()))
    boxes = boxes_Q4[flat // scores_QK.shape[1]]
    return Detections(boxes=boxes, scores=scores, labels=labels_QK.flatten()[flat])
