"""A weights file that kdet wrote → the model that it belongs to."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model

from .backbones import freeze_norms, freeze_stages
from .models import build_model


def load_student(path: str) -> tuple[nn.Module, list[str]]:
    """Load a detector from a weights file that kdet wrote, in evaluation mode, and its class names by label."""
    with safe_open(path, framework="pt") as handle:
        about = json.loads(handle.metadata()["kdet"])
    if about["build"] is None:
        raise ValueError(
            f"{path} holds a module that was wrapped; build it with its own source, then "
            "load_state_dict(safetensors.torch.load_file(path))"
        )
    model = build_any(about["build"])
    model.load_state_dict(load_file(path))
    return model.eval(), about["class_names"]


def build_any(arguments: Mapping[str, Any]) -> nn.Module:
    """Build what a weights file names: a detector of `build_model`, or with `library` torchvision's own."""
    plain = {name: value for name, value in arguments.items() if name != "library"}
    library = arguments.get("library")
    if not library:
        return build_model(**plain)
    size = plain["image_size"]
    short, limit = (size, size) if isinstance(size, int) else size
    sizes = {} if "ssd" in library else {"min_size": short, "max_size": limit}
    model: Any = get_model(library, weights=None, weights_backbone=None, num_classes=plain["num_classes"], **sizes)
    if plain["norm"] == "frozen":
        freeze_norms(model, eps=0.0 if library in ZERO_EPS else 1e-5)
    if hasattr(model.backbone, "body"):
        freeze_stages(model.backbone.body, plain["trainable_layers"])
    elif plain["trainable_layers"] == 0:
        freeze_norms(model.backbone.features.requires_grad_(False))
    return model


ZERO_EPS = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")
"""torchvision runs these with eps 0 in their frozen norms, as their weights were trained."""
