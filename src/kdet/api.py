"""`kdet.wrap`, `kdet.build` and `kdet.foundation`: detectors and teachers for somebody else's training loop."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

from torch import nn

from kdet import detectors
from kdet.detectors import Given, HookedDetector
from kdet.detectors.backbones.foundation import Library
from kdet.detectors.modules.hooked import Forward, Losses, Predict
from kdet.distill import FrozenTeacher
from kdet.errors import InputError
from kdet.types import Canvas, Detector

Normalize = tuple[Sequence[float], Sequence[float]]


class _TapOptions(TypedDict, total=False):
    """The options of `wrap` that belong to a module with taps."""

    features: Sequence[str] | None
    strides: Sequence[int] | None
    predict: Predict | None
    losses: Losses | None
    forward: Forward | None
    normalize: Normalize | None
    image_size: int | tuple[int, int] | None
    canvas: Canvas | None


@overload
def wrap(
    model: nn.Module, classes: Sequence[str] = (), *, frozen: Literal[True], **options: Unpack[_TapOptions]
) -> FrozenTeacher: ...
@overload
def wrap(
    model: nn.Module, classes: Sequence[str] = (), *, frozen: Literal[False] = False, **options: Unpack[_TapOptions]
) -> Detector: ...
def wrap(
    model: nn.Module,
    classes: Sequence[str] = (),
    *,
    frozen: bool = False,
    features: Sequence[str] | None = None,
    strides: Sequence[int] | None = None,
    predict: Predict | None = None,
    losses: Losses | None = None,
    forward: Forward | None = None,
    normalize: Normalize | None = None,
    image_size: int | tuple[int, int] | None = None,
    canvas: Canvas | None = None,
) -> Detector | FrozenTeacher:
    """Wrap a model that the user built, weights and all: a torchvision detector as it is, or any module by its taps.

    Any module, where `features` are given: a teacher of features needs nothing more than its `strides`, a student
    `losses` too. Of a torchvision detector kdet knows all of that.

    Args:
        model: RetinaNet, FCOS, Faster R-CNN, SSD or SSDlite of torchvision, ATSS, GFL or Cascade R-CNN of kdet, a
            detection model of transformers or libreyolo, a YOLO of ultralytics' structure; with `features` any module.
        classes: one name per label. torchvision: per column of its class layer, with or without the background of
            column 0. May be left out for a module that neither trains nor predicts.
        frozen: for a teacher: evaluation mode and no gradients from here on.
        features: where the levels come from: paths of modules, `neck.p3`, `neck[0]` or `neck['p3']`.
        strides: pixels per cell of each.
        predict: `(module, images N×3×H×W, sizes_hw)` → for each image boxes M×4 x1 y1 x2 y2 in pixels of the input,
            scores M and labels M, indices into `classes`.
        losses: `(module, images, targets)` → the task's losses by name; it runs the module once, and the features are
            taken from that same pass. Labels are indices into `classes`. In mixed precision it runs under autocast, so
            that it must bring what it compares with boxes to float32: bfloat16 counts pixels in steps of 2 beyond 256.
        forward: `(module, images)`, where `module(images)` is not how it is run, or runs more than the features need.
        normalize: mean and std of the three colours; None = the module is given pixels in 0…1.
        image_size: long side, or short side and limit, that images are resized to; None = they keep their size.
        canvas: how images of any shape become one input, see `kdet.types.Canvas`; None = pad.

    Returns:
        The detector around the same module; with `frozen` a FrozenTeacher.

    Raises:
        InputError: no adapter for this module, names, taps or strides that do not fit, or something is missing.

    Examples:
        >>> import kdet
        >>> from torch import nn
        >>> backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1))
        >>> detector = kdet.wrap(backbone, features=["0", "1"], strides=[8, 16])
        >>> [level.channels for level in detector.levels]
        [8, 16]
        >>> detector.model is backbone
        True
    """
    options = {"strides": strides, "predict": predict, "losses": losses, "forward": forward, "normalize": normalize}
    if features is None:
        shape = {"image_size": image_size, "canvas": canvas}
        if given := [name for name, value in (options | shape).items() if value is not None]:
            raise InputError(f"wrap: {', '.join(given)} belong to a module with taps; name them: features=[…]")
        detector = detectors.wrap(model, classes)
    else:
        if not classes and (predict or losses):
            raise InputError("wrap: labels mean nothing without names; give classes=[…]")
        if canvas not in (None, "pad") and not isinstance(image_size, int):
            raise InputError(f"wrap: canvas {canvas} is a square; give its side, such as image_size=640")
        given = Given(
            predict=predict,
            losses=losses,
            forward=forward,
            normalize=normalize,
            image_size=image_size,
            canvas=canvas or "pad",
        )
        detector = HookedDetector(model, classes, features, strides or (), given)
    return FrozenTeacher(detector) if frozen else detector


def build(detector: str, *, classes: Sequence[str], **arguments: Any) -> Detector:
    """Build a detector by name; the arguments are those of `kdet.detectors.build`.

    Raises:
        InputError: an unknown name, or arguments that do not go together.

    Examples:
        >>> import kdet
        >>> arguments = {"backbone": "resnet10", "width": 0.25, "fpn_channels": 16}
        >>> detector = kdet.build("retinanet", classes=["circle", "square"], **arguments)
        >>> detector.class_names
        ('__background__', 'circle', 'square')
        >>> [level.stride for level in detector.levels]
        [8, 16, 32, 64, 128]
    """
    return detectors.build(detector, classes=classes, **arguments)


def foundation(
    name: str, *, library: Library = "timm", weights: str | None = None, options: Mapping[str, Any] | None = None
) -> Detector:
    """Return a pretrained ViT or ConvNeXt as a teacher of features; arguments as of `kdet.detectors.foundation`.

    Raises:
        InputError: no such model, or its library or weights are not there.
    """
    return detectors.foundation(name, library=library, weights=weights, options=options)
