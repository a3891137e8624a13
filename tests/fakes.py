"""Small real parts that many tests share: tiny detectors, a batch with every awkward case, tiny recipes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from kdet.detectors import build
from kdet.types import Batch, Detector, Target

CLASSES = ("circle", "square", "triangle")
DETECTOR_NAMES = ("retinanet", "fcos", "faster_rcnn", "cascade_rcnn", "ssdlite", "atss", "gfl")
TWO_STAGE = ("faster_rcnn", "cascade_rcnn")
IMAGE_SIZE = 96


def tiny(detector: str = "retinanet", *, classes: Sequence[str] = CLASSES, seed: int = 0, **options: Any) -> Detector:
    """A real detector of the family, small enough for a test; another seed, other weights."""
    small: dict[str, Any] = {"image_size": IMAGE_SIZE, "anchor_scale": 0.5}
    if detector == "ssdlite":
        small |= {"width": 0.25}
    else:
        # torchvision's FCOS head normalises in 32 groups; with a channel each, a 1×1 map is always exactly 0.
        small |= {"backbone": "resnet10", "width": 0.25, "fpn_channels": 64 if detector == "fcos" else 32}
    torch.manual_seed(seed)
    found = build(detector, classes=classes, **(small | options))
    _enliven(found.model)
    return found


def _enliven(model: nn.Module) -> None:
    """Weights as after some training: class scores that differ between cells, batch statistics that are no default."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.Conv2d) and name.endswith(("cls_logits", "bbox_reg")):
            with torch.no_grad():
                module.weight.mul_(10)
                module.bias.add_(1.5)


def images_and_targets() -> tuple[list[Tensor], list[Target]]:
    """Three images of different sizes; the second holds no object. Labels are columns: 0 is the background."""
    generator = torch.Generator().manual_seed(7)
    images = [torch.rand(3, h, w, generator=generator) for h, w in ((96, 80), (64, 96), (90, 90))]
    boxes = ([[5, 5, 45, 50], [30, 40, 70, 90]], [], [[10, 20, 60, 80], [50, 8, 88, 40], [3, 3, 25, 25]])
    labels = ([1, 3], [], [2, 1, 3])
    targets = [
        Target(
            boxes=torch.tensor(b, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(k, dtype=torch.int64),
        )
        for b, k in zip(boxes, labels, strict=True)
    ]
    return images, targets


def batch_for(detector: Detector) -> Batch:
    """That batch at the detector's own input size."""
    return detector.batch(*images_and_targets())


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything a module holds."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit for bit, names included."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def tiny_recipe(**sections: Any) -> dict[str, Any]:
    """A recipe that trains in seconds; sections are merged into it, None takes one out."""
    recipe: dict[str, Any] = {
        "data": {"format": "shapes", "images": 8, "val_images": 4, "image_size": 64, "scale": [0.3, 0.6], "clutter": 0},
        "student": {
            "detector": "retinanet",
            "backbone": "resnet10",
            "width": 0.25,
            "fpn_channels": 32,
            "anchor_scale": 0.5,
        },
        "train": {
            "epochs": 2,
            "batch_size": 4,
            "optimizer": "adamw",
            "lr": 0.001,
            "warmup_steps": 0,
            "evaluate_every": 0,
            "log_every": 1,
        },
    }
    for name, values in sections.items():
        recipe[name] = {**recipe.get(name, {}), **values} if isinstance(values, dict) else values
    return {name: values for name, values in recipe.items() if values is not None}


def coco_of(folder: Path, sizes_hw: Sequence[tuple[int, int]], box_xyxy: tuple[float, ...] | None = None) -> Path:
    """A COCO data set of noise with one object an image: the given box, else a dark rectangle on its left half."""
    generator = torch.Generator().manual_seed(11)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "circle"}]}
    (folder / "images").mkdir(parents=True)
    for number, (height, width) in enumerate(sizes_hw, start=1):
        left, top, right, bottom = box_xyxy or (width // 8, height // 4, width // 2, 3 * height // 4)
        pixels = torch.randint(128, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
        if box_xyxy is None:
            pixels[int(top) : int(bottom), int(left) : int(right)] //= 8
        Image.fromarray(pixels.numpy()).save(folder / "images" / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        box = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, **box})
    file = folder / "annotations_train.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def write_yaml(path: Path, content: Any) -> Path:
    """The content as a YAML file."""
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
