"""Arms differ in the distillation alone: a placebo is the student alone, bit for bit, whoever draws random numbers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from train_cases import records, run

import kdet
from detr_fakes import config_of
from fakes import DETECTOR_NAMES, batch_for, images_and_targets, same_state, state_of, tiny, tiny_recipe
from kdet.detectors.modules.own_code import ALLOWED
from kdet.distill import Distiller, Term, prove_it_acts
from kdet.distill.methods import mgd, structural
from kdet.train import Recipe
from kdet.types import Detector
from suites import quick
from yolo_fakes import yolo

PLACEBOS = [{"method": name, "weight": 0.0, "placebo": True} for name in ("structural", "mgd")]
DROPOUT = {"dropout": 0.3, "attention_dropout": 0.2}
SETS = ("rt_detr", "d_fine", "deformable_detr", "detr", "lw_detr")
STUDENTS: dict[str, dict[str, Any]] = {
    **{name: {"detector": name} for name in DETECTOR_NAMES},
    "fcos": {"detector": "fcos", "fpn_channels": 64},
    "ssdlite": {"detector": "ssdlite", "width": 0.25, "anchor_scale": 0.5},
    **{kind: {"detector": "hf", "config": config_of(kind, **DROPOUT)} for kind in SETS},
    "yolo": {"factory": "test_paired_arms:made_yolo"},
    "wrapped": {"factory": "test_paired_arms:made_wrapped"},
}
TEACHER = {"factory": "test_paired_arms:made_wrapped", "options": {"channels": 16}}


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

    options: dict[str, Any] = {"features": ["neck"], "strides": [8], "losses": losses, "predict": nothing}
    return kdet.wrap(Drawing(channels), list(classes), **options)


def made_yolo(*, classes: Sequence[str]) -> nn.Module:
    return yolo(num_classes=len(classes))


def recipe(name: str, **sections: Any) -> Recipe:
    """Four steps of a tiny student; clipped, averaged, two batches a step."""
    train = {"epochs": 2, "batch_size": 2, "accumulate": 2, "ema": 0.9, "clip_norm": 0.1}
    plain = tiny_recipe(train={**train, **sections.pop("train", {})}, **sections)
    if name not in DETECTOR_NAMES or name == "ssdlite":
        plain["student"] = {}
    if name == "deformable_detr":  # its coarsest level would normalise single cells
        plain["data"]["image_size"] = 96
    return Recipe.model_validate({**plain, "student": {**plain["student"], **STUDENTS[name]}})


@pytest.mark.parametrize(
    "name", quick(STUDENTS, lambda name: name in ("retinanet", "faster_rcnn", "rt_detr", "yolo", "wrapped"))
)
def test_a_placebo_is_the_student_alone_bit_for_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a teacher that draws whenever it is asked."""
    monkeypatch.setenv(ALLOWED, "1")
    alone, placebo = tmp_path / "alone", tmp_path / "placebo"
    assert run(recipe(name), alone).steps == 4
    assert run(recipe(name, teacher=TEACHER, distill=PLACEBOS), placebo).steps == 4
    assert tasks(alone) == tasks(placebo)
    for file in ("average", "trainables"):
        one, other = (students(folder / "last" / f"{file}.safetensors") for folder in (alone, placebo))
        assert len(one) > 5 and one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


def tasks(folder: Path) -> list[dict[str, float]]:
    steps = records(folder, "step")
    return [{k: v for k, v in record["parts"].items() if k.startswith("task/")} for record in steps]


def students(path: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if not name.startswith("criterion.")}


def test_another_seed_and_another_step_draw_other_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that stay as they are, and the same images in every batch: only what is drawn differs."""
    monkeypatch.setenv(ALLOWED, "1")
    still = {"optimizer": "sgd", "lr": 1e-30, "batch_size": 8, "accumulate": 1, "epochs": 3, "clip_norm": None}
    losses: list[float] = []
    for seed in (0, 1):
        run(recipe("wrapped", train={**still, "seed": seed}), tmp_path / str(seed))
        losses += [record["total"] for record in records(tmp_path / str(seed), "step")]
    assert len(losses) == len(set(losses)) == 6


def test_what_was_drawn_elsewhere_in_the_process_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's numbers are a function of seed, batch and rank."""
    monkeypatch.setenv(ALLOWED, "1")
    found: list[list[float]] = []
    for seed in (1, 2):
        np.random.seed(seed)
        random.seed(seed)
        run(recipe("wrapped"), tmp_path / str(seed))
        found.append([record["total"] for record in records(tmp_path / str(seed), "step")])
    assert found[0] == found[1]


NOTHING = [replace(term, placebo=True) for term in (*mgd(0.0), *structural(0.0))]


def own_loop(terms: Sequence[Term], *, before: Callable[[Distiller], object]) -> tuple[Distiller, list[Any]]:
    """Somebody else's loop, which seeds but once; what Faster R-CNN samples is drawn."""
    student, teacher = tiny("faster_rcnn", seed=3), tiny("faster_rcnn", seed=4)
    torch.manual_seed(5)
    pair = Distiller(student, teacher if terms else None, terms)
    before(pair.train())
    optimizer = torch.optim.SGD(pair.parameters(), lr=1e-3)
    return pair, [take(pair, optimizer) for _ in range(4)]


def take(pair: Distiller, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    report = pair(*images_and_targets(), measure=True)
    optimizer.zero_grad()
    report.total.backward()
    optimizer.step()
    return {name: float(value.detach()) for name, value in report.parts.items()}


def of_the_task(parts: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in own.items() if name.startswith("task/")} for own in parts]


def test_in_a_foreign_loop_too_a_placebo_draws_nothing_from_the_students_numbers() -> None:
    (alone, expected), (placebo, found) = own_loop([], before=id), own_loop(NOTHING, before=id)
    assert expected == of_the_task(found) and expected[0] != expected[1]
    assert same_state(state_of(alone.model), state_of(placebo.model))


def test_the_proof_that_distillation_acts_draws_nothing_either() -> None:
    batch = batch_for(tiny("faster_rcnn"))
    _, expected = own_loop(NOTHING, before=id)
    _, found = own_loop(NOTHING, before=lambda pair: prove_it_acts(pair, batch))
    assert expected == found


def test_masks_are_new_in_each_step_and_a_loaded_state_goes_on_with_the_next_ones() -> None:
    """The student draws nothing here, so that torch's own state stands still."""

    def pair() -> Distiller:
        made = Distiller(tiny(seed=3), tiny(seed=4), mgd(1.0))
        return made.train()  # type: ignore[return-value]

    def losses(made: Distiller, count: int) -> list[float]:
        return [float(made(*images_and_targets()).parts["mgd"].detach()) for _ in range(count)]

    torch.manual_seed(5)
    whole, first = pair(), pair()
    assert same_state(state_of(whole), state_of(first))  # the same seed, the same start
    expected = losses(whole, 4)
    assert len(set(expected)) == 4
    begun = losses(first, 2)
    second = pair()
    second.load_state_dict(first.state_dict())
    assert [*begun, *losses(second, 2)] == expected
