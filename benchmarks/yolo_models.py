"""A factory for recipes, as a user of ultralytics would write it; needs that library, which kdet does not.

student: {factory: "benchmarks.yolo_models:build", options: {name: yolo11, width: 0.125}}
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import ultralytics
import yaml
from torch import nn
from ultralytics.nn.tasks import DetectionModel, load_checkpoint


def build(
    classes: Sequence[str], name: str = "yolo11", width: float = 0.25, depth: float = 0.5, weights: str | None = None
) -> nn.Module:
    """A model of this generation, scaled, with random weights; or that of a checkpoint of the library's trainer.

    Args:
        classes: names of the objects.
        name: yolov8, yolo11 or yolo26.
        width: channels, 0.25 = nano, 0.5 = small.
        depth: repetitions, 0.5 = nano of yolo11 and yolo26; yolov8's is 0.33.
        weights: a .pt file that the library wrote, which is unpickled; None = random.
    """
    if weights is not None:
        return load_checkpoint(weights)[0]
    model = DetectionModel(architecture(name, width, depth), nc=len(classes), verbose=False)
    model.names = dict(enumerate(classes))
    return model


def architecture(name: str, width: float, depth: float) -> dict[str, object]:
    """The library's own description of a model at a size of its own."""
    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    found = yaml.safe_load(next(folder.rglob(f"{name}.yaml")).read_text())
    found["scales"] = {"n": [depth, width, 1024]}
    return {**found, "scale": "n"}


def load_back(state: dict[str, torch.Tensor], num_classes: int, name: str, width: float, depth: float) -> nn.Module:
    """The library's own model with the weights of a student file."""
    model = DetectionModel(architecture(name, width, depth), nc=num_classes, verbose=False)
    model.load_state_dict(state)
    return model
