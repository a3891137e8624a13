"""How hard does each method pull at its published weight, against the task at the student's neck?

    python benchmarks/pulls.py --out benchmarks/results/pulls-cpu.json

Pairs of different necks, heads and image sizes on generated shapes. Teacher and student learn the task alone, from
random weights; after a few steps of the student every method that the pair can serve is measured on some batches. A
method without a published weight has 1. What a method trains for itself (adapters, generators) is untrained.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import medians, whereabouts

from kdet.data import make_loader
from kdet.distill import METHODS, Distiller, Term
from kdet.distill.preflight.doubts import USUAL_RATIO
from kdet.errors import InputError
from kdet.train import Recipe, open_data
from kdet.train.build import build_student
from kdet.train.data import training_data
from kdet.train.optim import learning_rate, make_optimizer, set_learning_rate
from kdet.types import Batch, Detector

RT_DETR: dict[str, Any] = {
    "model_type": "rt_detr",
    "d_model": 64,
    "num_queries": 60,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 128,
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 128,
    "encoder_attention_heads": 4,
    "encoder_in_channels": [64, 128, 256],
    "decoder_in_channels": [64, 64, 64],
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "embedding_size": 32,
        "hidden_sizes": [32, 64, 128, 256],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
        "out_features": ["stage2", "stage3", "stage4"],
    },
}
WIDE, NARROW = {"backbone": "resnet18", "width": 0.5}, {"backbone": "resnet10", "width": 0.25}
PAIRS: dict[str, dict[str, Any]] = {
    "retinanet, 64 channels, 96 px": {
        "size": 96,
        "teacher": {"detector": "retinanet", "fpn_channels": 64, "anchor_scale": 0.5, **WIDE},
        "student": {"detector": "retinanet", "fpn_channels": 64, "anchor_scale": 0.5, **NARROW},
    },
    "gfl, 128 channels, 160 px": {
        "size": 160,
        "teacher": {"detector": "gfl", "fpn_channels": 128, **WIDE},
        "student": {"detector": "gfl", "fpn_channels": 128, **NARROW},
    },
    "rt_detr, 64 channels, 96 px": {
        "size": 96,
        "teacher": {"detector": "hf", "config": RT_DETR},
        "student": {"detector": "hf", "config": {**RT_DETR, "num_queries": 40}},
    },
}
LOOKS = (0, 20, 60)
"""Steps of the student after which it is looked at."""
BATCHES = 3
"""Batches of a look; the median of their pulls is taken."""


def main() -> None:
    """Measure every pair, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gradients = {name: pulls_of(**pair) for name, pair in PAIRS.items()}
    weights = {name: weight_of(name) for name in METHODS}
    content = {"what": "norm of a term's gradient at the student's neck / norm of the task's", "steps": LOOKS}
    content |= {"weights": weights, "gradients": gradients, "usual": USUAL_RATIO, "environment": whereabouts()}
    arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def weight_of(method: str) -> float:
    """The published one, or 1."""
    return METHODS[method].published or 1.0


def pulls_of(size: int, teacher: dict[str, Any], student: dict[str, Any]) -> dict[str, list[float]]:
    """Of each method, at each look."""
    theirs, ours = (recipe_of(size, model) for model in (teacher, student))
    large, small = detector_of(theirs), detector_of(ours)
    for _ in learning(large, theirs):
        pass
    pair = Distiller(small, large, served(small, large)).train()
    found: dict[str, list[float]] = {}
    for batches in learning(small, ours):
        for name, value in look(pair, batches).items():
            found.setdefault(name, []).append(float(f"{value:.3g}"))
    print(json.dumps(found), flush=True)
    return found


def recipe_of(size: int, model: dict[str, Any]) -> Recipe:
    """The student of a recipe, as in recipes/shapes."""
    train = {"epochs": 1, "batch_size": 4, "optimizer": "adamw", "lr": 0.001, "weight_decay": 0.05, "clip_norm": 10.0}
    data = {"format": "shapes", "images": 4 * (LOOKS[-1] + 1), "val_images": 1, "image_size": size}
    return Recipe.model_validate({"data": data, "student": model, "train": train})


def detector_of(recipe: Recipe) -> Detector:
    """With random weights."""
    torch.manual_seed(0)
    return build_student(recipe, open_data(recipe).train.index.classes, print)


def served(student: Detector, teacher: Detector) -> list[Term]:
    """Every method that the pair can serve."""
    found: list[Term] = []
    for name, method in METHODS.items():
        terms = method.terms(weight=weight_of(name))
        try:
            Distiller(student, teacher, terms)
        except InputError:
            continue
        found += terms
    return found


def learning(detector: Detector, recipe: Recipe) -> Iterator[list[Batch]]:
    """Train on the task alone; where it is to be looked at, the batches for that."""
    alone = Distiller(detector).train()
    data, sampler = training_data(recipe, open_data(recipe).train, alone, print)
    optimizer = make_optimizer(alone, recipe)
    batches = list(make_loader(data, sampler))
    for step, batch in enumerate(batches):
        if step in LOOKS:
            yield batches[:BATCHES]
        set_learning_rate(optimizer, learning_rate(recipe.train, step, len(batches)))
        optimizer.zero_grad()
        alone(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(detector.model.parameters(), recipe.train.clip_norm or 0)
        optimizer.step()


def look(pair: Distiller, batches: list[Batch]) -> dict[str, float]:
    """The pull of each term, the median over some batches."""
    found: dict[str, list[float]] = {}
    for batch in batches:
        for name, pull in pair(batch, measure=True).gradients.items():
            found.setdefault(name, []).append(pull.ratio)
    return medians(found)


if __name__ == "__main__":
    main()
