"""Which part of a detector a tensor belongs to, family by family: backbone, neck or head."""

import re
from typing import Any, Literal

from torch import nn

from kdet.detectors.hf.detr import DetrDetector
from kdet.detectors.modules.hooked import HookedDetector
from kdet.detectors.yolo.libreyolo_detr import LibreDetrDetector
from kdet.detectors.yolo.points import PointDetector
from kdet.types import Detector

Part = Literal["backbone", "neck", "head"]
_PREFIXES: dict[str, Part] = {
    "backbone.fpn.": "neck",
    "backbone.extra.": "neck",
    "backbone.lateral_conv": "neck",
    "backbone.reduce_conv": "neck",
    "backbone.C3_": "neck",
    "backbone.bu_conv": "neck",
    "backbone.": "backbone",
    "model.backbone.projector.": "neck",
    "model.backbone.": "backbone",
    "model.conv_encoder.encoder_input_proj.": "neck",
    "model.conv_encoder.": "backbone",
    "model.encoder": "neck",
    "model.input_proj": "neck",
    "encoder.": "neck",
    "neck.": "neck",
}
"""torchvision's names, YOLOX's pyramid, then transformers' and libreyolo's; SSD's extra layers are its neck. What no
prefix names is the head."""
_YOLO_LAYER = re.compile(r"model\.(\d+)\.(?!(one2one_)?(cv[23]\.\d|dfl))")
"""A layer of a YOLO that is not its head; only the model's own description tells which of them are its backbone."""

SET_DETECTOR_BACKBONE_LR = 0.1
"""Factor on the backbone's learning rate in DETR, Deformable DETR, RT-DETR and RF-DETR; D-FINE and RT-DETRv4 have 0.02
to 0.5, by size."""


def part_of(name: str) -> Part:
    """Return the part of a tensor by its name; a YOLO's neck counts as backbone, for names cannot tell them apart."""
    for prefix, part in _PREFIXES.items():
        if name.startswith(prefix):
            return part
    return "backbone" if _YOLO_LAYER.match(name) else "head"


def backbone_parameters(detector: Detector) -> list[nn.Parameter]:
    """List the parameters of a detector's backbone; none where kdet cannot know it, as in a module with taps."""
    if isinstance(detector, HookedDetector):
        return []
    depth = _yolo_depth(detector.model)

    def is_backbone(name: str) -> bool:
        layer = _YOLO_LAYER.match(name)
        return int(layer[1]) < depth if layer else part_of(name) == "backbone"

    return [parameter for name, parameter in detector.model.named_parameters() if is_backbone(name)]


def usual_backbone_lr(detector: Detector) -> float:
    """Return the factor on the learning rate with which a pretrained backbone of this family is usually trained."""
    return SET_DETECTOR_BACKBONE_LR if isinstance(detector, DetrDetector | LibreDetrDetector) else 1.0


def uses_nesterov(detector: Detector) -> bool:
    """Whether SGD has Nesterov's momentum in this family's own library: it does for the YOLOs of ultralytics' structure
    and of libreyolo, and not in torchvision's reference training."""
    return isinstance(detector, PointDetector)


def _yolo_depth(model: Any) -> int:
    """Number of the layers that a YOLO's own description calls its backbone; 0 without one."""
    described = getattr(model, "yaml", None)
    return len(described.get("backbone", ())) if isinstance(described, dict) else 0
