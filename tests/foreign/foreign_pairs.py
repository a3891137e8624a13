"""Recipes of a few steps on generated shapes, for models of other libraries."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from kdet.train import Recipe, fit

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["circle", "square", "triangle"]
SIZE = 128
LAST = tuple(f"{branch}.{level}.2.weight" for branch in ("cv2", "cv3") for level in range(3))
"""What the names of a YOLO head's last weights end with, in both branches."""
FACTORY = "benchmarks.yolo_models:build"


def factory(name: str, width: float, depth: float = 0.33) -> dict[str, Any]:
    """A model of ultralytics at a size of its own."""
    return {"factory": FACTORY, "options": {"name": name, "width": width, "depth": depth}}


def teacher(name: str, width: float, depth: float = 0.33) -> dict[str, Any]:
    """The same, with outputs that differ from image to image, as the proof of distillation wants them."""
    return {"factory": "foreign_pairs:lively", "options": {"name": name, "width": width, "depth": depth}}


def lively(classes: list[str], **options: Any) -> torch.nn.Module:
    """The factory of such a teacher."""
    from benchmarks.yolo_models import build

    torch.manual_seed(1)
    model = build(classes, **options)
    enliven(model, torch.rand(4, 3, SIZE, SIZE), LAST)
    return model


def lively_yolov9(classes: list[str], size: str) -> torch.nn.Module:
    """The factory of such a teacher of libreyolo's."""
    from libreyolo.models.yolo9.nn import LibreYOLO9Model

    torch.manual_seed(1)
    model = LibreYOLO9Model(config=size, nb_classes=len(classes))
    enliven(model, torch.rand(4, 3, SIZE, SIZE), LAST)
    return model


def libreyolo(model: str, size: str) -> dict[str, Any]:
    """A model of libreyolo."""
    return {"detector": "libreyolo", "config": {"model": model, "size": size}}


RETINANET = {"detector": "retinanet", "backbone": "resnet10", "width": 0.25, "fpn_channels": 32}
FASTER_RCNN = {"detector": "faster_rcnn", "backbone": "resnet10", "width": 0.25, "fpn_channels": 32}
SSDLITE = {"detector": "ssdlite", "width": 0.25}
RT_DETR = {
    "detector": "hf",
    "config": {
        "model_type": "rt_detr",
        "backbone_config": {
            "model_type": "rt_detr_resnet",
            "layer_type": "basic",
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 1],
            "out_features": ["stage2", "stage3", "stage4"],
        },
        **{"encoder_in_channels": [16, 24, 32], "encoder_hidden_dim": 32, "d_model": 32, "num_queries": 20},
        **{"decoder_in_channels": [32, 32, 32], "decoder_layers": 2, "num_denoising": 0},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
    },
}


def recipe(student: dict[str, Any], teacher: dict[str, Any] | None, methods: list[str], **train: Any) -> dict[str, Any]:
    """Two steps of two images; the teacher has random weights, which the proof of distillation does not mind."""
    content: dict[str, Any] = {
        "data": {"format": "shapes", "images": 6, "val_images": 2, "image_size": SIZE, "scale": [0.3, 0.6]},
        "student": student,
        "train": {"max_steps": 2, "batch_size": 2, "optimizer": "adamw", "lr": 0.001, "evaluate_every": 0, **train},
    }
    if teacher is not None:
        content |= {"teacher": teacher, "distill": [{"method": method} for method in methods]}
    return content


def trained(content: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The steps of the log of a run."""
    fit(Recipe.model_validate(content), folder)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "step"]


def write(content: dict[str, Any], file: Path) -> Path:
    """As a YAML file."""
    file.write_text(yaml.safe_dump(content))
    return file


def enliven(model: torch.nn.Module, images: torch.Tensor, last: tuple[str, ...]) -> None:
    """Statistics of real images, and scores and boxes that differ from cell to cell; then evaluation mode."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
        for name, parameter in model.named_parameters():
            if name.endswith(last):
                parameter.normal_(0, 0.2)
    model.eval()


def assert_same_found(ours, theirs, *, score, px):
    """Detections (scores, labels, boxes) have a partner on the other side; of equal scores another may come first."""
    near = (ours[0][:, None] - theirs[0]).abs() <= score
    near &= ours[1][:, None] == theirs[1]
    near &= (ours[2][:, None] - theirs[2]).abs().amax(-1) <= px
    assert near.any(0).all() and near.any(1).all()
