"""Which students baselines.py trains on both sides, from which start, with which numbers."""

from dataclasses import dataclass, field, replace
from typing import Any

from library_loops import Loop, libreyolo_trainer, torchvision_reference, transformers_trainer, ultralytics_trainer
from yolo_side_by_side import ROOT

WEIGHTS = ROOT.parent / "shared" / "data" / "weights"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One student, trained by its library and by kdet."""

    library: str = ""
    """The package; none for a detector that no library at hand has."""
    loop: Loop | None = None
    arms: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Of the library: name → numbers of its loop."""
    student: dict[str, Any]
    """Of kdet's recipe."""
    as_library: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the library's constructor does of itself with pretrained weights, and kdet's own default should."""
    data: str = "cells"
    """cells, or shapes."""
    size: int
    batch: int = 8
    epochs: int
    train: dict[str, Any]
    """Of kdet's recipe: the library's numbers."""
    augment: dict[str, Any] = field(default_factory=lambda: {"flip": 0.5})


SGD = {"optimizer": "sgd", "weight_decay": 1e-4, "lr_schedule": "step", "warmup_steps": 36}
MOBILENET = {
    **{"backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64, "anchor_scale": 0.4},
    "backbone_weights": str(WEIGHTS / "mobilenet_v2_035_imagenet.safetensors"),
}
FROZEN = {"norm": "frozen", "trainable_layers": 3}
HFLIP = {"preset": "hflip", "schedule": "steps", "weight_decay": 1e-4}
SET_SIZES = {
    **{"d_model": 64, "num_queries": 40, "num_denoising": 20, "decoder_layers": 2, "decoder_attention_heads": 4},
    **{"decoder_ffn_dim": 128, "encoder_hidden_dim": 64, "encoder_ffn_dim": 128, "encoder_attention_heads": 4},
    **{"decoder_in_channels": [64, 64, 64], "freeze_backbone_batch_norms": False},
}
THREE = {"out_features": ["stage2", "stage3", "stage4"]}
RT_DETR = {
    **{"model_type": "rt_detr", **SET_SIZES, "encoder_in_channels": [32, 64, 128]},
    "backbone_config": {
        **{"model_type": "rt_detr_resnet", "layer_type": "basic", **THREE},
        **{"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]},
    },
}
D_FINE = {
    **{"model_type": "d_fine", **SET_SIZES, "encoder_in_channels": [32, 64, 128]},
    "backbone_config": {
        **{"model_type": "hgnet_v2", **THREE, "embedding_size": 16, "stem_channels": [3, 16, 16]},
        **{"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1], "stage_in_channels": [16, 16, 32, 64]},
        **{"stage_mid_channels": [16, 16, 32, 64], "stage_out_channels": [16, 32, 64, 128]},
        **{"stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [2, 2, 2, 2]},
    },
}
TRAINER = {"learning_rate": 1e-3, "max_grad_norm": 0.1, "warmup_steps": 60}
ADAMW = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "clip_norm": 0.1, "warmup_steps": 60}
AUTO = {
    **{"optimizer": "AdamW", "lr0": 0.001429, "momentum": 0.9, "warmup_bias_lr": 0.0},
    **{"nbs": 8, "warmup_epochs": 1.0, "close_mosaic": 2},
}
"""What ultralytics' `optimizer: auto` takes for three classes and fewer than 10,000 steps. At its `nbs: 64` only
every eighth batch would be a step; warm-up and closing epochs have the proportions of 100."""
PLAIN = {"mosaic": 0.0, "scale": 0.25}


def _ultralytics(name: str, **arms: dict[str, Any]) -> Family:
    model = {"name": name, "width": 0.125, "depth": 0.5}
    return Family(
        library="ultralytics",
        loop=ultralytics_trainer,
        arms={arm.replace("_", " "): {"model": model, "train": AUTO | numbers} for arm, numbers in arms.items()},
        student={"factory": "benchmarks.yolo_models:build", "options": model},
        size=128,
        epochs=16,
        train={
            **{"optimizer": "adamw", "lr": AUTO["lr0"], "weight_decay": 5e-4, "lr_schedule": "cosine"},
            **{"warmup_steps": 36, "clip_norm": 10.0, "ema": 0.9999},
        },
        augment={"flip": 0.5, "scale": [0.75, 1.25], "photometric": 0.5},
    )


def _alone(detector: str, fpn_channels: int = 64, **numbers: Any) -> Family:
    """On a pretrained MobileNetV2, with the numbers of torchvision's reference."""
    return Family(
        student={"detector": detector, **MOBILENET, "fpn_channels": fpn_channels},
        size=160,
        **{"epochs": 8, "train": {**SGD, "lr": 0.005}, **numbers},
    )


def _torchvision(family: Family, lr_of_16: float) -> Family:
    """The same beside torchvision's loop."""
    arms = {"reference": {**HFLIP, "lr_of_16": lr_of_16}}
    return replace(family, library="torchvision", loop=torchvision_reference, arms=arms, as_library=FROZEN)


TWO_STAGES: dict[str, Any] = {
    "fpn_channels": 32,
    "batch": 4,
    "epochs": 3,
    "train": {**SGD, "lr": 0.005, "warmup_steps": 72},
}
FAMILIES = {
    "RetinaNet": _torchvision(_alone("retinanet"), lr_of_16=0.01),
    "FCOS": _torchvision(_alone("fcos"), lr_of_16=0.01),
    "Faster R-CNN": _torchvision(_alone("faster_rcnn", **TWO_STAGES), lr_of_16=0.02),
    "SSDlite": Family(
        library="torchvision",
        loop=torchvision_reference,
        arms={"reference": {"preset": "ssdlite", "schedule": "cosine", "lr_of_16": 0.0125, "weight_decay": 4e-5}},
        student={"detector": "ssdlite", "width": 0.5},
        size=160,
        epochs=13,
        train={**SGD, "lr": 0.00625, "weight_decay": 4e-5, "lr_schedule": "cosine"},
        augment={"flip": 0.5, "crop": 1.0},
    ),
    "RT-DETR": Family(
        library="transformers",
        loop=transformers_trainer,
        arms={"Trainer": TRAINER},
        student={"detector": "hf", "config": RT_DETR},
        data="shapes",
        size=96,
        epochs=16,
        train=ADAMW,
    ),
    "D-FINE": Family(
        library="transformers",
        loop=transformers_trainer,
        arms={"Trainer": TRAINER},
        student={"detector": "hf", "config": D_FINE},
        data="shapes",
        size=96,
        epochs=16,
        train=ADAMW,
    ),
    "YOLOX-nano": Family(
        library="libreyolo",
        loop=libreyolo_trainer,
        arms={"mosaic": {}, "no mosaic": {"mosaic_prob": 0.0, "mixup_prob": 0.0}},
        student={
            **{"detector": "libreyolo", "config": {"model": "yolox", "size": "n"}},
            "weights": str(WEIGHTS / "yolox_nano_coco.safetensors"),
        },
        size=192,
        epochs=5,
        train={
            **{"optimizer": "sgd", "lr": 0.01, "weight_decay": 5e-4, "lr_schedule": "cosine", "warmup_steps": 36},
            "ema": 0.9998,
        },
        augment={"flip": 0.5, "photometric": 0.5},
    ),
    "YOLO11": _ultralytics("yolo11", mosaic={}, no_mosaic=PLAIN),
    "YOLO26": _ultralytics("yolo26", no_mosaic=PLAIN),
    "ATSS": _alone("atss"),
    "GFL": _alone("gfl"),
    "Cascade R-CNN": _alone("cascade_rcnn", **TWO_STAGES),
}
