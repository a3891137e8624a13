"""The detectors by name, from plain arguments or from a file that kdet wrote."""

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kdet.detectors.hf.families import FAMILIES
from kdet.detectors.hf.models import build_detr, classes_of, rebuild_detr
from kdet.detectors.modules.own_code import call_factory
from kdet.detectors.plain import BACKBONES, TIMM, build_any
from kdet.detectors.torchvision.models import Notes, backbone_defaults, library_model, load_and_tell, plain_model
from kdet.detectors.weights import (
    StoredWeights,
    check,
    classes_in_weights,
    is_file,
    library_weights,
    load,
    read_weights,
    require_finite,
)
from kdet.detectors.wrapping import BARE, adapt, wrap
from kdet.detectors.yolo.libreyolo_models import GIVEN, build_libreyolo, rebuild_libreyolo
from kdet.errors import InputError
from kdet.ops.canvas import canvas_hw
from kdet.ops.classes import BACKGROUND, real_classes
from kdet.types import Canvas, Detector, ImageSize, Need

DETECTORS: dict[str, dict[str, frozenset[Need]]] = {
    **{name: {name: adapter.provides} for name, (_, adapter) in BARE.items()},
    "hf": {name: family.provides for name, family in FAMILIES.items()},
    "libreyolo": GIVEN,
}
"""Name in a recipe → its models, and what each of them reveals."""
_WITH_P6 = ("retinanet", "fcos", "atss", "gfl")
FACTORY = "factory"
"""Word in the place of such a name where the user's own function builds the detector."""


def _quiet(_: str) -> None:
    """Drop a note that nobody asked for."""


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
    norm: str | None = None,
    trainable_layers: int | None = None,
    width: float = 1.0,
    fpn_channels: int = 256,
    head_norm: bool | None = None,
    anchor_scale: float = 1.0,
    p6: Literal["p5", "c5"] = "p5",
    image_size: int | Sequence[int] | None = None,
    canvas: Canvas | Literal["auto"] = "auto",
    notes: Notes = _quiet,
) -> Detector:
    """Build a detector for these classes.

    Args:
        detector: a name of DETECTORS, or `factory`.
        classes: names of the objects; background is added as column 0 where the list does not start with it.
        config: of hf, with random weights: its `model_type`, and what is not to be transformers' default. Of libreyolo
            its `model` and `size`.
        factory: of `factory`: `module:function`; it is called with `classes` and `options` and returns what `wrap` or
            `kdet.wrap` take or return.
        options: of the factory.
        backbone: one of BACKBONES, or `timm/NAME`; None = resnet50, or mobilenet_v3_large for ssdlite. This and what
            follows is for torchvision's detectors, but for weights and image size.
        weights: None (random), a file, or torchvision's weights by name; see `kdet.detectors.weights.load`. For hf a
            folder or a name on the hub.
        backbone_weights: the same for the backbone alone, such as `ResNet18_Weights.IMAGENET1K_V1`; of timm's also
            `pretrained`, which is timm's own.
        norm: batch, frozen, eval or group, in the backbone; None = batch with random weights, with pretrained ones as
            torchvision has it (`backbone_defaults`).
        trainable_layers: 0…5, from the deep end, norms included; None = 5 with random weights, with pretrained ones as
            torchvision has it: 3.
        width: channel multiplier of resnet10/18/34 and the MobileNets.
        fpn_channels: channels of the neck.
        head_norm: GroupNorm in RetinaNet's head; None = where the neck is narrower than 256 channels. The other
            dense heads always have it.
        anchor_scale: multiplies the anchor sizes.
        p6: what the levels of strides 64 and 128 of RetinaNet, FCOS, ATSS and GFL are made of: p5 as torchvision's
            first versions and most papers have it, c5 as mmdetection's RetinaNet.
        image_size: long side, or (short side, limit), in pixels; None = the family's own: 640 for YOLO and RT-DETR, 320
            for ssdlite, (800, 1333) for most others.
        canvas: how images of any shape become one input, see `kdet.types.Canvas`; auto = as the family's own library
            trains and validates.
        notes: receives what the user should know, a line at a time.

    Raises:
        InputError: an unknown name, or arguments that do not go together.
    """
    if detector not in (*DETECTORS, FACTORY):
        raise InputError(f"unknown detector {detector!r}; known: {', '.join(DETECTORS)}")
    size = image_size if isinstance(image_size, int | None) else (image_size[0], image_size[1])
    for key, value, owners in (("config", config, ("hf", "libreyolo")), ("options", options or None, (FACTORY,))):
        if value is not None and detector not in owners:
            raise InputError(f"{key}: belongs to detector {' or '.join(owners)}, got detector {detector}; leave it out")
    shape: dict[str, Any] = {
        "width": width,
        "fpn_channels": fpn_channels,
        "anchor_scale": anchor_scale,
        "head_norm": head_norm,
        "p6": p6,
    }
    shape |= {"backbone_weights": backbone_weights}
    body: dict[str, Any] = {"backbone": backbone, "norm": norm, "trainable_layers": trainable_layers}
    if detector not in BARE and (norm, trainable_layers) == ("batch", 5):  # what older runs' recipes spell out
        body = {"backbone": backbone}
    if detector == "hf":
        _refuse_ignored("the config or weights of hf", shape | body)
        made = build_detr(classes, config=config, weights=weights, image_size=size, notes=notes)
        return _finished(made, canvas, weights)
    if detector == "libreyolo":
        _refuse_ignored("the config of libreyolo", shape | body)
        made = build_libreyolo(classes, config=config, weights=weights, image_size=size, notes=notes)
        return _finished(made, canvas, weights)
    if detector == FACTORY:
        _refuse_ignored(f"factory {factory}", shape | body)
        made = _from_factory(factory or "", classes, options or {}, size)
        if weights is not None:
            load_and_tell(made.model, read_weights(Path(weights)), made.class_names, notes)
        return _finished(made, canvas, weights or f"factory: {factory}")
    if weights is not None and not is_file(weights):
        _refuse_ignored(f"weights {weights}", shape)
    if size is None:
        size = 320 if detector == "ssdlite" else (800, 1333)
    made = _bare(detector, classes, weights, notes, image_size=size, **shape, **body)
    return _finished(made, canvas, weights or backbone_weights)


def _finished(made: Detector, canvas: Canvas | Literal["auto"], origin: str | None) -> Detector:
    """On its canvas, and with weights that are numbers."""
    require_finite(made.model, origin or made.family)
    if canvas != "auto":
        made.canvas = canvas
    return made


def _bare(
    detector: str,
    classes: Sequence[str],
    weights: str | None,
    notes: Notes,
    *,
    backbone: str | None,
    backbone_weights: str | None,
    norm: str | None,
    trainable_layers: int | None,
    fpn_channels: int,
    head_norm: bool | None,
    **others: Any,
) -> Detector:
    """One of BARE."""
    backbone = backbone or ("mobilenet_v3_large" if detector == "ssdlite" else "resnet50")
    if backbone not in BACKBONES and not backbone.startswith(TIMM):
        near = get_close_matches(backbone, BACKBONES, n=3)
        known = f"near: {', '.join(near)}" if near else "`kdet list detectors` has their names"
        raise InputError(f"unknown backbone {backbone!r}; {known}, or {TIMM}NAME for a network of timm")
    norm, trainable_layers = backbone_defaults(detector, weights, backbone_weights, norm, trainable_layers)
    if norm in ("frozen", "eval") and weights is None and backbone_weights is None:
        raise InputError(f"norm {norm!r} normalises nothing on random weights; use 'batch' or 'group', or give weights")
    if norm == "eval" and weights is not None and not is_file(weights):
        raise InputError(f"norm 'eval' goes with backbone_weights; weights {weights} are trained under 'frozen'")
    if others["p6"] != "p5" and detector not in _WITH_P6:
        raise InputError(f"p6: {detector} has no such levels; leave it out, or use {', '.join(_WITH_P6)}")
    names = with_background(classes)
    arguments = {"detector": detector, "num_classes": len(names), "backbone": backbone, "norm": norm, **others}
    arguments |= {"trainable_layers": trainable_layers, "fpn_channels": fpn_channels}
    arguments |= {"head_norm": fpn_channels < 256 if head_norm is None else head_norm}
    if weights is not None and not is_file(weights):
        found = library_weights(weights)
        arguments["library"] = type(found).__name__.removesuffix("_Weights").lower()
        return adapt(library_model(found, arguments, names, notes, BARE[detector][0]), names, arguments)
    model = plain_model(arguments, backbone_weights)
    if weights is not None:
        load_and_tell(model, read_weights(Path(weights)), names, notes)
    return adapt(model, names, arguments)


def rebuild(stored: StoredWeights) -> Detector:
    """Rebuild the detector of a file that kdet wrote.

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
        made = _finished(_rebuilt(stored, stored.build, stored.class_names), stored.canvas, stored.origin)
        canvas_hw(made.image_size, made.canvas)
        return made
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
    if arguments["detector"] == "libreyolo":
        return rebuild_libreyolo(stored)
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


def classes_in(weights: str, detector: str) -> tuple[str, ...] | None:
    """Return the class names by column that the weights of such a detector come with; None where they do not say.

    Raises:
        InputError: no such weights.
    """
    return classes_of(weights) if detector == "hf" else classes_in_weights(weights)


def with_background(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the class list as torchvision's class layers count it: background first.

    Raises:
        InputError: no class, or a name twice.
    """
    if not real_classes(classes):
        raise InputError("the class list is empty; a detector needs at least one class")
    return tuple(classes) if 0 not in real_classes(classes).values() else (BACKGROUND, *classes)


def _from_factory(
    factory: str, classes: Sequence[str], options: Mapping[str, Any], image_size: ImageSize | None
) -> Detector:
    made = call_factory(factory, classes, options)
    detector = wrap(made, classes) if isinstance(made, nn.Module) else made
    size = image_size or detector.image_size
    own = {"detector": FACTORY, "factory": factory, "options": dict(options), "image_size": size}
    detector.build_arguments, detector.image_size = own, size
    return detector


def _refuse_ignored(source: str, given: Mapping[str, Any]) -> None:
    """A setting that would be ignored in silence is an error."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(build).parameters.items()}
    if ignored := [name for name, value in given.items() if value != defaults[name]]:
        raise InputError(f"the architecture is settled by {source}; leave out {', '.join(ignored)}")
