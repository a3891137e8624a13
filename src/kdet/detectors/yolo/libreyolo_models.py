"""libreyolo's detectors from a name and a size, or from a user's module: the one door for libreyolo."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from kdet.detectors.weights import StoredWeights, load, read_weights
from kdet.detectors.yolo.libreyolo_detr import LibreDetrDetector, MakeLoss
from kdet.detectors.yolo.libreyolo_parts import RtmdetParts, Yolo9Parts, YoloxParts
from kdet.detectors.yolo.points import PointDetector, given
from kdet.errors import InputError
from kdet.ops.classes import real_classes
from kdet.types import ImageSize, Need

Notes = Callable[[str], None]
LibreDetector = PointDetector | LibreDetrDetector
_ORIGIN = "libreyolo.models."


def is_libreyolo(model: nn.Module) -> bool:
    """Whether it is one of libreyolo's modules that kdet reads; libreyolo is not imported for it."""
    return type(model).__module__.startswith(_ORIGIN) and type(model).__name__ in _READ


def build_libreyolo(
    classes: Sequence[str],
    *,
    config: Mapping[str, Any] | None,
    weights: str | None,
    image_size: ImageSize | None,
    notes: Notes,
) -> LibreDetector:
    """Build a detector with random weights, or those of a local file.

    Args:
        classes: names of the objects.
        config: `model`: yolov9, yolox, rtmdet, rt_detr_v2, rt_detr_v4 or d_fine, and its `size` as libreyolo names it.
        weights: a file of plain tensors of that architecture; the class layer starts fresh where kdet wrote it for
            other classes.
        image_size: long side, or short side and limit; None = the library's 640.
        notes: receives what the user should know.

    Raises:
        InputError: libreyolo is not there, or has no such model or size; weights of another architecture.
    """
    names = tuple(real_classes(classes))
    if not names:
        raise InputError("the class list is empty; a detector needs at least one class")
    detector = _built(config or {}, names, pretrained=weights is not None)
    detector.image_size = image_size or detector.image_size
    own = {"detector": "libreyolo", "config": dict(config or {}), "image_size": detector.image_size}
    detector.build_arguments = own
    if weights is not None and (fresh := load(detector.model, read_weights(Path(weights)), names)):
        notes(f"{weights}: other classes, so the class layer starts fresh ({len(fresh)} tensors)")
    return detector


def rebuild_libreyolo(stored: StoredWeights) -> LibreDetector:
    """Rebuild the detector of a file that kdet wrote."""
    assert stored.build is not None and stored.class_names is not None
    detector = _built(stored.build["config"], stored.class_names)
    load(detector.model, stored, stored.class_names)
    size = stored.build["image_size"]
    detector.image_size = size if isinstance(size, int) else (size[0], size[1])
    detector.build_arguments = stored.build
    return detector


def wrap_libreyolo(model: Any, classes: Sequence[str]) -> LibreDetector:
    """Wrap a module that the user built; an RT-DETRv4 is taken for the D-FINE whose class it has.

    Raises:
        InputError: the number of names does not fit the class layer.
    """
    return _adapted(_READ[type(model).__name__], model, classes)


def _built(config: Mapping[str, Any], names: Sequence[str], *, pretrained: bool = False) -> LibreDetector:
    model = _random(config, len(names), pretrained=pretrained)
    return _adapted(_NAMED.get(config["model"]) or _READ[type(model).__name__], model, names)


def _adapted(read: "_Read", model: Any, classes: Sequence[str]) -> LibreDetector:
    names, expected = tuple(classes), read.columns(model)
    if len(names) != expected:
        raise InputError(f"expected {expected} class names, one per class of the model, got {len(classes)}")
    real_classes(names)
    return read.adapter(read.family, model.to(memory_format=torch.channels_last), names)


def _library(module: str) -> Any:
    """One of libreyolo's modules; all of its models are imported with it."""
    try:
        return importlib.import_module(_ORIGIN + module)
    except ImportError as error:
        raise InputError(f"detector libreyolo needs libreyolo: pip install 'kdet[yolo]' ({error})") from None


def _random(config: Mapping[str, Any], num_classes: int, *, pretrained: bool) -> Any:
    """A module for weights to come, with those parts of the backbone frozen that the library freezes then, or none."""
    unknown = set(config) - {"model", "size"}
    if unknown or config.get("model") not in _BUILDERS or not isinstance(config.get("size"), str):
        raise InputError(
            f"config: expected {{model: {' | '.join(_BUILDERS)}, size: t}} for detector libreyolo, got {dict(config)}"
        )
    try:
        return _BUILDERS[config["model"]](config["size"], num_classes, pretrained)
    except ValueError as error:
        raise InputError(f"config: libreyolo has no such {config['model']}: {error}; name another `size`") from None


def _yolov9(size: str, num_classes: int, pretrained: bool) -> Any:
    return _library("yolo9.nn").LibreYOLO9Model(config=size, nb_classes=num_classes)


def _yolox(size: str, num_classes: int, pretrained: bool) -> Any:
    model = _library("yolox.nn").LibreYOLOXModel(config=size, nb_classes=num_classes)
    model.init_weights()  # libreyolo's trainer does it for random weights
    return model


def _rtmdet(size: str, num_classes: int, pretrained: bool) -> Any:
    return _library("rtmdet.nn").LibreRTMDetModel(size=size, nc=num_classes)


def _yolov9_loss(head: Any, device: torch.device) -> Any:
    strides = [int(stride) for stride in head.stride]
    make = _library("yolo9.loss").YOLO9Loss
    return make(num_classes=head.nc, reg_max=head.reg_max, strides=strides, image_size=None, device=device)


def _rtmdet_loss(head: Any, device: torch.device) -> Any:
    return _library("rtmdet.loss").RTMDetLoss(num_classes=head.num_classes, strides=head.strides)


def _set_detector(module: str, name: str) -> Callable[[str, int, bool], Any]:
    """Builder for a family whose class in libreyolo knows the sizes."""

    def build(size: str, num_classes: int, pretrained: bool) -> Any:
        maker = getattr(_library(module), name)(None, size=size, nb_classes=num_classes, device="cpu")
        maker._initializing_from_scratch = not pretrained  # whether nothing of the backbone is frozen
        return maker._init_model()

    return build


def _v2_loss(num_classes: int, device: torch.device) -> Any:
    return _library("rtdetrv2.loss").RTDETRv2Loss(num_classes=num_classes).to(device)


def _trainers_loss(module: str, trainer: str) -> MakeLoss:
    """Builder of the loss through the library's trainer; a stand-in answers for the trainer's own settings."""

    def make(num_classes: int, device: torch.device) -> Any:
        stand_in = SimpleNamespace(_is_segment=bool, config=SimpleNamespace(num_classes=num_classes), device=device)
        return getattr(_library(module), trainer).build_criterion(stand_in)

    return make


def _yolov9_detector(family: str, model: Any, names: Sequence[str]) -> LibreDetector:
    return PointDetector(family, Yolo9Parts(model, _yolov9_loss), names)


def _yolox_detector(family: str, model: Any, names: Sequence[str]) -> LibreDetector:
    return PointDetector(family, YoloxParts(model), names)


def _rtmdet_detector(family: str, model: Any, names: Sequence[str]) -> LibreDetector:
    return PointDetector(family, RtmdetParts(model, _rtmdet_loss), names)


def _v2_detector(family: str, model: Any, names: Sequence[str]) -> LibreDetector:
    return LibreDetrDetector(family, model, names, _v2_loss)


def _d_fine_detector(family: str, model: Any, names: Sequence[str]) -> LibreDetector:
    return _of_d_fines_class(family, model, names, _trainers_loss("dfine.trainer", "DFINETrainer"))


def _v4_detector(family: str, model: Any, names: Sequence[str]) -> LibreDetector:
    return _of_d_fines_class(family, model, names, _trainers_loss("rtdetrv4.trainer", "RTDETRv4Trainer"))


def _of_d_fines_class(family: str, model: Any, names: Sequence[str], make_loss: MakeLoss) -> LibreDetector:
    decoder = model.decoder
    for constant in ("up", "reg_scale"):  # one tensor under two names, which a file of weights cannot hold
        setattr(
            decoder.decoder, constant, nn.Parameter(getattr(decoder, constant).detach().clone(), requires_grad=False)
        )
    return LibreDetrDetector(family, model, names, make_loss)


@dataclass(frozen=True)
class _Read:
    """How one of libreyolo's modules is read."""

    family: str
    columns: Callable[[Any], int]
    """The module → its number of classes."""
    adapter: Callable[[str, Any, Sequence[str]], LibreDetector]


_BUILDERS: dict[str, Callable[[str, int, bool], Any]] = {
    "yolov9": _yolov9,
    "yolox": _yolox,
    "rtmdet": _rtmdet,
    "rt_detr_v2": _set_detector("rtdetrv2.model", "LibreRTDETRv2"),
    "rt_detr_v4": _set_detector("rtdetrv4.model", "LibreRTDETRv4"),
    "d_fine": _set_detector("dfine.model", "LibreDFINE"),
}
_READ = {
    "LibreYOLO9Model": _Read("yolov9", lambda model: model.nc, _yolov9_detector),
    "LibreYOLOXModel": _Read("yolox", lambda model: model.nb_classes, _yolox_detector),
    "LibreRTMDetModel": _Read("rtmdet", lambda model: model.nc, _rtmdet_detector),
    "RTDETRv2Model": _Read("rt_detr_v2", lambda model: model.decoder.num_classes, _v2_detector),
    "LibreDFINEModel": _Read("d_fine", lambda model: model.decoder.num_classes, _d_fine_detector),
}
"""Readers by the name of the class."""
_NAMED = {"rt_detr_v4": _Read("rt_detr_v4", lambda model: model.decoder.num_classes, _v4_detector)}
"""Readers by the name in a config, where the class is another's: D-FINE's, trained with DEIM's loss (MAL in place of
VFL)."""
GIVEN: dict[str, frozenset[Need]] = {
    "yolov9": given(has_edges=Yolo9Parts.has_edges),
    "yolox": given(has_edges=YoloxParts.has_edges),
    "rtmdet": given(has_edges=RtmdetParts.has_edges),
    **dict.fromkeys(("rt_detr_v2", "rt_detr_v4", "d_fine"), LibreDetrDetector.provides),
}
"""What each name of a config's `model` reveals."""
