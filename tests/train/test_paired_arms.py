"""Promise 5: arms differ in the distillation alone. A placebo is the student alone, bit for bit, whoever draws what."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from train_cases import recipe_of, records, run

import kdet
from detr_fakes import config_of, tiny_detr
from fakes import CLASSES, DETECTOR_NAMES, batch_for, images_and_targets, same_state, state_of, tiny
from kdet.detectors.own_code import ALLOWED
from kdet.distill import Distiller
from kdet.distill.methods import mgd, structural
from kdet.train import Recipe
from kdet.train.recipe import Recipe as _Recipe
from kdet.types import Detector
from yolo_fakes import yolo

HERE = "test_paired_arms"
PLACEBOS = [{"method": name, "weight": 0.0, "placebo": True} for name in ("structural", "mgd")]
TRAIN = {"epochs": 2, "batch_size": 4, "accumulate": 1, "ema": 0.9, "clip_norm": 0.1, "lr": 0.001}
DROPOUT = {"dropout": 0.3}
STUDENTS: dict[str, dict[str, Any]] = {
    **{name: {"detector": name} for name in DETECTOR_NAMES},
    **{
        kind: {"detector": "hf", "config": config_of(kind, **DROPOUT)}
        for kind in ("rt_detr", "d_fine", "deformable_detr", "detr", "lw_detr")
    },
    "yolo": {"factory": f"{HERE}:made_yolo"},
    "wrapped": {"factory": f"{HERE}:made_wrapped"},
}


class Drawing(nn.Module):
    """Draws from every generator there is, in evaluation too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 4, 1), nn.ReLU())
        self.neck = nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU())
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        noise = random.random() + np.random.rand() + torch.rand(())
        return self.head(F.dropout(self.neck(self.stem(images) * noise), 0.3))


def made_wrapped(*, classes: Sequence[str], channels: int = 8) -> Detector:
    def losses(model: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {"loss": (model(images) - 1).square().mean()}

    def nothing(model: nn.Module, images: Tensor, sizes_hw: Any) -> list[dict[str, Tensor]]:
        none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
        return [none] * len(images)

    return kdet.wrap(
        Drawing(channels), list(classes), features=["neck"], strides=[8], losses=losses, predict=nothing
    )


def made_yolo(*, classes: Sequence[str]) -> nn.Module:
    return yolo(num_classes=len(classes))


def recipe(student: dict[str, Any], **sections: Any) -> Recipe:
    """A student of tiny size, and a teacher that draws."""
    plain = recipe_of(train=TRAIN, **sections).model_dump(mode="json")
    own = plain["student"] if student.get("detector") in DETECTOR_NAMES else {}
    if student.get("detector") == "ssdlite":
        own = {"width": 0.25, "anchor_scale": 0.5}
    elif student.get("detector") == "fcos":
        own = {**own, "fpn_channels": 64}
    return _Recipe.model_validate({**plain, "student": {**own, **student}})


TEACHER = {"factory": f"{HERE}:made_wrapped", "options": {"channels": 16}}


@pytest.mark.parametrize("name", STUDENTS)
def test_a_placebo_is_the_student_alone_bit_for_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOWED, "1")
    alone = recipe(STUDENTS[name])
    placebo = recipe(STUDENTS[name], teacher=TEACHER, distill=PLACEBOS)
    for own, folder in ((alone, "alone"), (placebo, "placebo")):
        assert run(own, tmp_path / folder).steps == 4
    one, other = (tasks(tmp_path / folder) for folder in ("alone", "placebo"))
    assert one == other
    for file in ("average", "trainables"):
        one, other = (students(tmp_path / folder / "last" / f"{file}.safetensors") for folder in ("alone", "placebo"))
        assert len(one) > 5 and same_state(one, other)


def tasks(folder: Path) -> list[dict[str, float]]:
    steps = records(folder, "step")
    return [{k: v for k, v in record["parts"].items() if k.startswith("task/")} for record in steps]


def students(path: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if not name.startswith("criterion.")}
