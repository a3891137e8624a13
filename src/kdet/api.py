"""The functions behind `kdet.wrap` and `kdet.build`: detectors for somebody else's training loop."""

from collections.abc import Sequence
from typing import Any, Literal, overload

from torch import nn

from kdet import detectors
from kdet.distill import FrozenTeacher
from kdet.types import Detector


@overload
def wrap(model: nn.Module, classes: Sequence[str], *, frozen: Literal[True]) -> FrozenTeacher: ...
@overload
def wrap(model: nn.Module, classes: Sequence[str], *, frozen: Literal[False] = False) -> Detector: ...
def wrap(model: nn.Module, classes: Sequence[str], *, frozen: bool = False) -> Detector | FrozenTeacher:
    """Wrap a detector that the user built, weights and all.

    Args:
        model: RetinaNet, FCOS, Faster R-CNN, SSD or SSDlite of torchvision, or a detection model of transformers.
        classes: one name per column of its class layer, with or without the background of column 0; for transformers
            one per label.
        frozen: for a teacher: evaluation mode and no gradients from here on.

    Raises:
        InputError: no adapter for this module, or the number of names does not fit.
    """
    detector = detectors.wrap(model, classes)
    return FrozenTeacher(detector) if frozen else detector


def build(detector: str, *, classes: Sequence[str], **arguments: Any) -> Detector:
    """Build a detector by name; the arguments are those of `kdet.detectors.build`.

    Raises:
        InputError: an unknown name, or arguments that do not go together.
    """
    return detectors.build(detector, classes=classes, **arguments)
