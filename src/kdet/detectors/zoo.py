"""The detectors by name: built from plain arguments, or wrapped around a module that the user has."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from kdet.detectors import dense_families
from kdet.detectors.dense import Dense
from kdet.detectors.detr import DetrDetector
from kdet.detectors.detr_families import FAMILIES
from kdet.detectors.detr_models import build_detr, classes_of, is_detr, rebuild_detr, wrap_detr
from kdet.detectors.own_code import call_factory
from kdet.detectors.plain import ATSS, BACKBONES, GFL, CascadeRCNN, build_any
from kdet.detectors.rcnn import RcnnDetector
from kdet.detectors.ssd import SsdDetector
from kdet.detectors.torchvision_models import Notes, library_model, load_and_tell, plain_model
from kdet.detectors.weights import (
    StoredWeights,
    check,
    classes_in_weights,
    is_file,
    library_weights,
    load,
    read_weights,
)
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

DETECTORS: dict[str, Adapter | type[DetrDetector]] = {
    **{name: adapter for name, (_, adapter) in BARE.items()},
    "hf": DetrDetector,
}
"""Name in a recipe → adapter."""
FACTORY = "factory"
"""In the place of such a name: the user's own function builds it."""


def _quiet(_: str) -> None:
    """Where nobody asked for the notes."""


def build(
    detector: str,
    *,
    classes: Sequence[str],
    config: Mapping[str, Any] | None = None,
    factory: str | None = None,
    options: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    backbone_weights: str | None = None,
    norm: str = "batch",
    trainable_layers: int = 5,
    width: float = 1.0,
    fpn_channels: int = 256,
    head_norm: bool | None = None,
    anchor_scale: float = 1.0,
    image_size: int | Sequence[int] = (800, 1333),
    notes: Notes = _quiet,
) -> Detector:
    """Build a detector for these classes.

    Args:
        detector: a name of DETECTORS, or `factory`.
        classes: names of the objects; background is added as column 0 where the list does not start with it.
        config: of hf, with random weights: its `model_type`, and what is not to be transformers' default.
        factory: of `factory`: `module:function`; it is called with `classes` and `options` and returns what `wrap` or
            `kdet.wrap` take or return.
        options: of the factory.
        backbone: one of BACKBONES; None = resnet50, or mobilenet_v3_large for ssdlite. This and what follows is for
            torchvision's detectors, but for weights and image size.
        weights: None (random), a file, or torchvision's weights by name; see `kdet.detectors.weights.load`. For hf a
            folder or a name on the hub.
        backbone_weights: the same for the backbone alone, such as `ResNet18_Weights.IMAGENET1K_V1`.
        norm: batch, frozen or group, in the backbone.
        trainable_layers: 0…5, from the deep end.
        width: channel multiplier of resnet10/18/34 and MobileNetV3.
        fpn_channels: channels of the neck.
        head_norm: GroupNorm in RetinaNet's head; None = where the neck is narrower than 256 channels. The other
            dense heads always have it.
        anchor_scale: multiplies the anchor sizes.
        image_size: long side, or (short side, limit), in pixels.
        notes: receives what the user should know, a line at a time.

    Raises:
        InputError: an unknown name, or arguments that do not go together.
    """
    if detector not in (*DETECTORS, FACTORY):
        raise InputError(f"unknown detector {detector!r}; known: {', '.join(DETECTORS)}")
    size = image_size if isinstance(image_size, int) else (image_size[0], image_size[1])
    shaped = {"width": width != 1, "fpn_channels": fpn_channels != 256, "anchor_scale": anchor_scale != 1}
    shaped |= {"head_norm": head_norm is not None, "backbone_weights": backbone_weights is not None}
    foreign = {"backbone": backbone is not None, "norm": norm != "batch", "trainable_layers": trainable_layers != 5}
    for key, value, owner in (("config", config, "hf"), ("options", options or None, FACTORY)):
        if value is not None and detector != owner:
            raise InputError(f"{key}: belongs to detector {owner}, got detector {detector}; leave it out")
    if detector == "hf":
        _refuse_ignored("detector hf: config or weights", shaped | foreign)
        return build_detr(classes, config=config, weights=weights, image_size=size, notes=notes)
    if detector == FACTORY:
        _refuse_ignored(f"factory {factory}: it", shaped | foreign)
        made = _from_factory(factory or "", classes, options or {}, size)
        if weights is not None:
            load_and_tell(made.model, read_weights(Path(weights)), made.class_names, notes)
        return made
    backbone = backbone or ("mobilenet_v3_large" if detector == "ssdlite" else "resnet50")
    if backbone not in BACKBONES:
        raise InputError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
    if norm == "frozen" and weights is None and backbone_weights is None:
        raise InputError("norm 'frozen' normalises nothing on random weights; use 'batch' or 'group', or give weights")
    names = with_background(classes)
    arguments: dict[str, Any] = {
        "detector": detector,
        "num_classes": len(names),
        "backbone": backbone,
        "width": width,
        "fpn_channels": fpn_channels,
        "norm": norm,
        "head_norm": (fpn_channels < 256) if head_norm is None else head_norm,
        "trainable_layers": trainable_layers,
        "anchor_scale": anchor_scale,
        "image_size": size,
    }
    if weights is not None and not is_file(weights):
        _refuse_ignored(f"weights {weights}", shaped)
        found = library_weights(weights)
        arguments["library"] = type(found).__name__.removesuffix("_Weights").lower()
        return adapt(library_model(found, arguments, names, notes, BARE[detector][0]), names, arguments)
    model = plain_model(arguments, backbone_weights)
    if weights is not None:
        load_and_tell(model, read_weights(Path(weights)), names, notes)
    return adapt(model, names, arguments)


def rebuild(stored: StoredWeights) -> Detector:
    """The detector of a file that kdet wrote.

    Raises:
        InputError: the file does not say how it was built.
    """
    if stored.build is None and stored.class_names is not None:
        raise InputError(
            f"{stored.origin}: holds a module that was wrapped, and kdet cannot build it; build it yourself, load the "
            "file with safetensors.torch.load_file and load_state_dict, and wrap it again"
        )
    if stored.build is None or stored.class_names is None:
        raise InputError(
            f"{stored.origin}: a plain weights file does not say its architecture; "
            "name it as `weights:` of a recipe's `student:` or `teacher:`"
        )
    try:
        return _rebuilt(stored, stored.build, stored.class_names)
    except InputError as error:
        raise InputError(str(error) if stored.origin in str(error) else f"{stored.origin}: {error}") from None
    except Exception as error:  # a damaged header may ask for anything
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{stored.origin}: its header describes no detector that kdet can build ({reason})") from None


def _rebuilt(stored: StoredWeights, build: dict[str, Any], class_names: tuple[str, ...]) -> Detector:
    objects = tuple(real_classes(class_names))
    size: Any = build["image_size"]
    sides: list[Any] = list(size) if isinstance(size, list | tuple) else [size]
    if len(sides) > 2 or not all(type(side) is int and 0 < side < 2**15 for side in sides):
        raise ValueError(f"image_size {size}")
    arguments: dict[str, Any] = {**build, "image_size": size if isinstance(size, int) else tuple(sides)}
    if arguments["detector"] == "hf":
        return rebuild_detr(stored)
    if arguments["detector"] == FACTORY:
        made = _from_factory(arguments["factory"], objects, arguments["options"], arguments["image_size"])
        load(made.model, stored, made.class_names)
        return made
    if arguments["num_classes"] != len(class_names):
        raise ValueError(f"{len(class_names)} class names for {arguments['num_classes']} columns")
    with torch.device("meta"):  # without memory: what the header asks for may be a thousand times what the file holds
        check(build_any(arguments), stored, class_names)
    model = build_any(arguments)
    load(model, stored, class_names)
    return adapt(model, class_names, arguments)


def adapt(model: nn.Module, class_names: tuple[str, ...], build_arguments: dict[str, Any] | None = None) -> Detector:
    """The adapter for a bare detector; `build_arguments` go with its weights file."""
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
        model: RetinaNet, FCOS, Faster R-CNN, SSD or SSDlite of torchvision; ATSS, GFL or Cascade R-CNN of kdet; or a
            detection model of transformers.
        classes: one name per column of its class layer, or without the background of column 0. torchvision's
            own `weights.meta["categories"]` works as it is. For transformers one name per label.

    Raises:
        InputError: no adapter, or the number of names does not fit the class layer.
    """
    if is_detr(model):
        return wrap_detr(model, classes)
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


def classes_in(weights: str, detector: str) -> tuple[str, ...] | None:
    """Class names by column that the weights of such a detector come with; None where they do not say.

    Raises:
        InputError: no such weights.
    """
    return classes_of(weights) if detector == "hf" else classes_in_weights(weights)


def with_background(classes: Sequence[str]) -> tuple[str, ...]:
    """The class list as torchvision's class layers count it: background first.

    Raises:
        InputError: no class, or a name twice.
    """
    if not real_classes(classes):
        raise InputError("the class list is empty; a detector needs at least one class")
    return tuple(classes) if 0 not in real_classes(classes).values() else (BACKGROUND, *classes)


def _from_factory(
    factory: str, classes: Sequence[str], options: Mapping[str, Any], image_size: int | tuple[int, int]
) -> Detector:
    made = call_factory(factory, classes, options)
    detector = wrap(made, classes) if isinstance(made, nn.Module) else made
    own = {"detector": FACTORY, "factory": factory, "options": dict(options), "image_size": image_size}
    detector.build_arguments, detector.image_size = own, image_size
    return detector


def _refuse_ignored(source: str, given: dict[str, bool]) -> None:
    """A setting that would be ignored in silence is an error."""
    if ignored := [name for name, is_given in given.items() if is_given]:
        raise InputError(f"{source} fix the architecture; leave out {', '.join(ignored)}")


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
        f"of transformers of type {', '.join(FAMILIES)}; any other module can be wrapped by its taps: "
        "kdet.wrap(module, features=[…], strides=[…])"
    )
