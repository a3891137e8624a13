"""An adapter around a module that is there: a bare detector by its class, or one that the user built."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from kdet.detectors.hf.families import FAMILIES
from kdet.detectors.hf.models import is_detr, wrap_detr
from kdet.detectors.plain import ATSS, GFL, CascadeRCNN
from kdet.detectors.torchvision import dense_families
from kdet.detectors.torchvision.dense import Dense
from kdet.detectors.torchvision.rcnn import RcnnDetector
from kdet.detectors.torchvision.ssd import SsdDetector
from kdet.detectors.yolo.libreyolo_models import is_libreyolo, wrap_libreyolo
from kdet.detectors.yolo.ultralytics import is_yolo, wrap_yolo
from kdet.errors import InputError
from kdet.ops.classes import BACKGROUND, real_classes
from kdet.types import Detector

Adapter = Dense | type[RcnnDetector] | type[SsdDetector]

BARE: dict[str, tuple[type[nn.Module], Adapter]] = {
    "retinanet": (RetinaNet, Dense(dense_families.RETINANET)),
    "fcos": (FCOS, Dense(dense_families.FCOS)),
    "faster_rcnn": (FasterRCNN, RcnnDetector),
    "cascade_rcnn": (CascadeRCNN, RcnnDetector),
    "ssdlite": (SSD, SsdDetector),
    "atss": (ATSS, Dense(dense_families.ATSS)),
    "gfl": (GFL, Dense(dense_families.GFL)),
}
"""Name in a recipe → the bare model's class, and the adapter that reads it."""


def adapt(model: nn.Module, class_names: tuple[str, ...], build_arguments: dict[str, Any] | None = None) -> Detector:
    """Wrap a bare detector in its adapter; `build_arguments` go with its weights file."""
    for library_class, adapter in BARE.values():
        if isinstance(model, library_class):
            channels_last: Any = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            detector = adapter(channels_last, class_names)
            detector.build_arguments = build_arguments
            if build_arguments is not None:
                detector.image_size = build_arguments["image_size"]
            return detector
    raise _no_adapter(model)


def wrap(model: nn.Module, classes: Sequence[str]) -> Detector:
    """Wrap a detector that the user built.

    Args:
        model: RetinaNet, FCOS, Faster R-CNN, SSD or SSDlite of torchvision; ATSS, GFL or Cascade R-CNN of kdet; a
            detection model of transformers; a YOLO of ultralytics' structure; one of libreyolo's.
        classes: one name per column of its class layer, or without the background of column 0. torchvision's
            own `weights.meta["categories"]` works as it is. For the others one name per label.

    Raises:
        InputError: no adapter, or the number of names does not fit the class layer.
    """
    if is_detr(model):
        return wrap_detr(model, classes)
    if is_yolo(model):
        return wrap_yolo(model, classes)
    if is_libreyolo(model):
        return wrap_libreyolo(model, classes)
    columns = _num_columns(model)
    names = tuple(classes) if len(classes) == columns else (BACKGROUND, *classes)
    if len(names) != columns:
        raise InputError(
            f"expected {columns} class names (with background) or {columns - 1} (without), got {len(classes)}"
        )
    if 0 in real_classes(names).values():
        raise InputError(
            f"column 0 of torchvision's detectors is the background, got the class {names[0]!r}; "
            f"{len(classes)} classes need num_classes={len(classes) + 1}"
        )
    return adapt(model, names)


def _num_columns(model: Any) -> int:
    match model:
        case CascadeRCNN():
            return model.roi_heads.stages[0].box_predictor.cls_score.out_features
        case FasterRCNN():
            return model.roi_heads.box_predictor.cls_score.out_features  # pyright: ignore
        case SSD():
            return model.head.classification_head.num_columns  # pyright: ignore
        case RetinaNet() | FCOS() | ATSS() | GFL():
            return model.head.classification_head.num_classes  # pyright: ignore
        case _:
            raise _no_adapter(model)


def _no_adapter(model: nn.Module) -> InputError:
    classes = [bare for bare, _ in BARE.values()]
    theirs = ", ".join(c.__name__ for c in classes if c.__module__.startswith("torchvision."))
    ours = ", ".join(c.__name__ for c in classes if c.__module__.startswith("kdet."))
    return InputError(
        f"no adapter for a {type(model).__name__}; known: torchvision's {theirs}; kdet's {ours}; the detection models "
        f"of transformers of type {', '.join(FAMILIES)}; YOLO models of ultralytics' structure; YOLOv9, YOLOX and "
        "RTMDet of libreyolo; any other module can be wrapped by its taps: "
        "kdet.wrap(module, features=[…], strides=[…])"
    )
