"""What somebody's own loop gives as images and targets, checked once where it comes in.

Legend: M objects of one image, K class columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_convert

from kdet.errors import InputError
from kdet.types import Target

_FORMATS = {"XYXY": "xyxy", "XYWH": "xywh", "CXCYWH": "cxcywh"}


def checked_images(images: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Cast images to the type of the weights; their values are not looked at.

    Args:
        images: 3×H×W each, or 1×H×W.
        dtype: of the weights.

    Raises:
        InputError: none, or one that is no such tensor.
    """
    if not len(images):
        raise InputError("expected at least one image, got an empty list")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"image {i}: expected a tensor 3×H×W in 0…1, got {type(image).__name__}")
        if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.dtype.is_floating_point:
            raise InputError(
                f"image {i}: expected a tensor 3×H×W of floats in 0…1, got {tuple(image.shape)} of {image.dtype}; "
                "permute "
                "the axes, or divide whole numbers by 255"
            )
    return [image if image.dtype == dtype else image.to(dtype) for image in images]


def checked_targets(images: Sequence[Tensor], targets: Sequence[Target], class_names: Sequence[str]) -> list[Target]:
    """Return targets as the detectors read them: boxes x1 y1 x2 y2 in float32 or float64, labels int64.

    Values are looked at by one reduction over all targets, and only where they lie in the processor's memory: a GPU
    would have to be waited for.

    Args:
        images: 3×H×W each.
        targets: "boxes" M×4, or a `tv_tensors.BoundingBoxes` of any unrotated format; "labels" M.
        class_names: of the detector, by column; none of one that knows no classes.

    Raises:
        InputError: a key, shape, type, format, label or box that no detector could learn from.
    """
    if isinstance(targets, Mapping) or len(images) != len(targets):
        raise InputError(f"expected one target an image, got {len(targets)} targets for {len(images)} images")
    found = [_target(i, target) for i, target in enumerate(targets)]
    if any(target["boxes"].device.type != "cpu" for target in found):
        return found
    least, most = int(bool(class_names) and _no_object(class_names[0])), len(class_names)
    boxes, labels = torch.cat([t["boxes"] for t in found]), torch.cat([t["labels"] for t in found])
    sound = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if most:
        sound &= (labels >= least) & (labels < most)
    if not bool(sound.all()):
        _refuse(found, int(torch.nonzero(~sound)[0]), least, most)
    return found


def _no_object(name: str) -> bool:
    return name.strip().lower() == "__background__"


def _target(i: int, target: Any) -> Target:
    for key in ("boxes", "labels"):
        if not isinstance(target, Mapping) or not isinstance(target.get(key), Tensor):  # pyright: ignore[reportUnknownMemberType]
            raise InputError(f"target {i}: expected a dictionary with the tensors 'boxes' (M×4) and 'labels' (M)")
    boxes, labels = target["boxes"], target["labels"]
    if isinstance(boxes, tv_tensors.BoundingBoxes):
        if boxes.format.name not in _FORMATS:
            raise InputError(f"target {i}: boxes of format {boxes.format.name} are rotated; give XYXY, XYWH or CXCYWH")
        boxes = box_convert(boxes.as_subclass(Tensor), _FORMATS[boxes.format.name], "xyxy")
    odd = [t for t in (boxes, labels) if t.layout != torch.strided or t.is_meta or t.is_complex()]
    if odd:
        raise InputError(
            f"target {i}: a tensor of {odd[0].dtype}, {odd[0].layout} on {odd[0].device}; give plain numbers"
        )
    if boxes.numel() == 0:
        boxes = boxes.reshape(-1, 4)
    if labels.numel() == 0:  # an empty list becomes a tensor of floats
        labels = labels.reshape(-1).long()
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"target {i}: boxes of shape {tuple(boxes.shape)}; expected M×4, x1 y1 x2 y2")
    if labels.ndim != 1 or labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise InputError(
            f"target {i}: labels of shape {tuple(labels.shape)} and {labels.dtype}; expected M whole numbers"
        )
    if len(labels) != len(boxes):
        raise InputError(f"target {i}: {len(labels)} labels for {len(boxes)} boxes; expected one a box")
    return Target(boxes=boxes if boxes.dtype == torch.float64 else boxes.float(), labels=labels.long())


def _refuse(found: Sequence[Target], at: int, least: int, most: int) -> None:
    """Name the first object that is wrong."""
    for i, target in enumerate(found):
        if at >= len(target["labels"]):
            at -= len(target["labels"])
            continue
        box, label = [round(value, 3) for value in target["boxes"][at].tolist()], int(target["labels"][at])
        if most and not least <= label < most:
            start = ", for 0 is the background" if least else ""
            raise InputError(f"target {i}: label {label} is none of {least}…{most - 1}{start}; see the class_names")
        raise InputError(f"target {i}: box {at} is {box}; expected finite x1 < x2 and y1 < y2, in pixels of its image")
