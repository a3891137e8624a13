"""The training loops that detectors' own libraries bring, or show in their reference scripts, on blood cells.

Each loop takes a task and returns the weights of its last epoch. What a library's loop does by default stays as it is;
what has to be shorter for a short run (warm-up, closing epochs) is shortened in proportion and stands here in plain
sight. Used by baselines.py.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from yolo_side_by_side import THEIRS, converted

from kdet.data import open_source
from kdet.types import Detector

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What both sides are given."""

    data: Path
    """Folder with annotations_train.json."""
    size: int
    """Long side of an image in pixels."""
    batch: int
    epochs: int
    seed: int
    numbers: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the loop: lr, weight decay and the like."""


Loop = Callable[[Detector, Task, Path], State]


def torchvision_reference(detector: Detector, task: Task, folder: Path) -> State:
    """After references/detection (train.py, engine.py, presets.py) of torchvision.

    SGD with momentum 0.9 over all that requires a gradient, one group; its learning rate for 16 images a step is scaled
    to `task.batch`; warm-up from a thousandth over the first epoch; steps at 16/26 and 22/26 of the run, or a cosine of
    epochs; nothing is clipped, nothing averaged. Preset hflip, or ssdlite with its crop.
    """
    numbers = task.numbers
    model: Any = detector.model
    lr = numbers["lr_of_16"] * task.batch / 16
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr, momentum=0.9, weight_decay=numbers["weight_decay"]
    )
    data = _Raw(task.data, detector.class_names, crop=numbers["preset"] == "ssdlite")
    loader = DataLoader(data, task.batch, shuffle=True, drop_last=True, collate_fn=list)
    if numbers["schedule"] == "cosine":
        schedule: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.epochs)
    else:
        steps = [round(part * task.epochs / 26) for part in (16, 22)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, steps)
    if model.transform.fixed_size is not None:  # an SSD's, which has the size in its name
        model.transform.fixed_size = (task.size, task.size)
    model.train()
    for epoch in range(task.epochs):
        warmup = None
        if epoch == 0:
            warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 1000, total_iters=min(1000, len(loader) - 1))
        for rows in loader:
            losses = model([image for image, _ in rows], [target for _, target in rows])
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if warmup is not None:
                warmup.step()
        schedule.step()
    return model.state_dict()


class _Raw(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Whole images in 0…1 with boxes in their own pixels, as torchvision's models take them, under a preset."""

    def __init__(self, data: Path, names: tuple[str, ...], *, crop: bool) -> None:
        source = open_source("coco", data / "annotations_train.json", split="train")
        index = source.index.relabelled(names)
        self.images = [source.read(i) for i in range(len(index))]
        self.objects = [index.objects(i) for i in range(len(index))]
        steps = [v2.RandomIoUCrop()] if crop else []
        self.preset = v2.Compose([*steps, v2.RandomHorizontalFlip(0.5), v2.SanitizeBoundingBoxes()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, own = self.images[i], self.objects[i]
        hw = (image.shape[-2], image.shape[-1])
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(own.boxes_xyxy), format="XYXY", canvas_size=hw)
        target = {"boxes": boxes, "labels": torch.from_numpy(own.labels)}
        seen, target = self.preset(tv_tensors.Image(image), target)
        return seen.float() / 255, {name: value.as_subclass(Tensor) for name, value in target.items()}


def transformers_trainer(detector: Detector, task: Task, folder: Path) -> State:
    """`Trainer`, as examples/pytorch/object-detection of transformers calls it.

    AdamW with no decay on norms and biases; the model's own image processor, which squeezes to a square. Of the
    example's albumentations, which are not installed here, the flip. Its learning rate is for pretrained weights and
    its schedule linear; these weights are random and kdet's schedule is a cosine, so `task.numbers` say otherwise.
    `Trainer` has one learning rate for all of the model.
    """
    from transformers import RTDetrImageProcessor, Trainer, TrainingArguments

    processor = RTDetrImageProcessor(size={"height": task.size, "width": task.size})
    data = _Processed(task.data, processor)
    numbers = {"weight_decay": 1e-4, "lr_scheduler_type": "cosine", **task.numbers}
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=task.epochs,
        per_device_train_batch_size=task.batch,
        dataloader_drop_last=True,
        **{"remove_unused_columns": False, "save_strategy": "no", "report_to": [], "disable_tqdm": True},
        **{"use_cpu": True, "seed": task.seed, "logging_strategy": "no"},
        **numbers,
    )
    Trainer(model=detector.model, args=arguments, train_dataset=data, data_collator=_collated).train()
    return detector.native_state()


class _Processed(Dataset[dict[str, Any]]):
    """Images as a processor of transformers makes them, flipped half of the time."""

    def __init__(self, data: Path, processor: Any) -> None:
        source = open_source("coco", data / "annotations_train.json", split="train")
        self.images = [source.read(i) for i in range(len(source.index))]
        self.objects = [source.index.objects(i) for i in range(len(source.index))]
        self.processor = processor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Any]:
        image, boxes = self.images[i], self.objects[i].boxes_xyxy.copy()
        if torch.rand(()) < 0.5:
            image, boxes[:, [0, 2]] = image.flip(-1), image.shape[-1] - boxes[:, [2, 0]]
        sizes = boxes[:, 2:] - boxes[:, :2]
        rows = [
            {"bbox": [*box[:2], *size], "area": float(np.prod(size)), "category_id": int(label), "iscrowd": 0}
            for box, size, label in zip(boxes, sizes, self.objects[i].labels, strict=True)
        ]
        found = self.processor(image, annotations={"image_id": i, "annotations": rows}, return_tensors="pt")
        return {"pixel_values": found["pixel_values"][0], "labels": found["labels"][0]}


def _collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [{name: row["labels"][name] for name in ("class_labels", "boxes")} for row in rows]
    return {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), "labels": labels}


def libreyolo_trainer(detector: Detector, task: Task, folder: Path) -> State:
    """libreyolo's own trainer of YOLOX, from the weights that the detector has.

    SGD with Nesterov momentum, no decay on norms and biases, average with a ramp, mosaic and mixup unless
    `task.numbers` turn them off. Of 300 epochs it warms up in 5 and closes in 15, without mosaic and with an L1 loss.
    """
    from libreyolo.models.yolox.model import LibreYOLOX

    random.seed(task.seed)
    np.random.seed(task.seed)
    wrapper = LibreYOLOX(None, size="n", nb_classes=len(detector.class_names), device="cpu")
    wrapper.model.load_state_dict(detector.native_state())
    wrapper.model_path = "pretrained"  # else its trainer takes the weights for random and sets the biases anew
    shutil.rmtree(folder, ignore_errors=True)
    wrapper.train(
        **_trained_on(task, folder),
        **{"device": "cpu", "workers": 0, "amp": False, "eval_interval": 1000},
        **{"warmup_epochs": 1, "no_aug_epochs": 1, **task.numbers},
    )
    return _weights_in(folder, "last.pt")


def ultralytics_trainer(detector: Detector, task: Task, folder: Path) -> State:
    """ultralytics' own trainer; what `task.numbers` do not say is its default."""
    from benchmarks.yolo_models import architecture
    from ultralytics import YOLO

    described = folder.parent / f"{folder.name}.yaml"
    options = task.numbers["model"]
    described.write_text(yaml.safe_dump(architecture(options["name"], options["width"], options["depth"])))
    fixed = {key: THEIRS[key] for key in ("deterministic", "device", "amp", "workers", "val", "plots", "verbose")}
    shutil.rmtree(folder, ignore_errors=True)
    YOLO(described, task="detect").train(**_trained_on(task, folder), **fixed, **task.numbers["train"])
    return _weights_in(folder, "last.pt")


def _trained_on(task: Task, folder: Path) -> dict[str, Any]:
    """What both libraries' `train` call by the same names: the images, how long, and where the files go."""
    return {
        **{"data": str(converted(folder.parent / "data")), "epochs": task.epochs, "batch": task.batch},
        **{"imgsz": task.size, "seed": task.seed, "project": str(folder.parent), "name": folder.name},
        **{"exist_ok": True, "patience": 0},
    }


def _weights_in(folder: Path, name: str) -> State:
    """The averaged weights of a checkpoint that one of these libraries has just written here."""
    found: Any = torch.load(next(folder.rglob(name)), map_location="cpu", weights_only=False)
    model = found.get("ema") or found.get("model")
    state = model.state_dict() if isinstance(model, nn.Module) else model
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
