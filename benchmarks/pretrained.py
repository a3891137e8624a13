"""How is a pretrained backbone of a dense or two-stage detector best trained? Real weights on real images.

    python benchmarks/pretrained.py retinanet --weights ../shared/data/weights/mobilenet_v2_035_imagenet.safetensors
    python benchmarks/pretrained.py faster_rcnn --weights …     # the same grid
    python benchmarks/pretrained.py --table                     # the recorded results, for docs/adr/0006

A cell of the grid is one factor on the backbone's learning rate, one number of trained stages and one kind of norm;
every cell has the same seeds and steps, and its score is the AP of the last weights on the validation images of BCCD.
Runs are kept under --runs, and those that are there are not repeated: the same command goes on where it ended.
"""

import argparse
import itertools
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from measuring import whereabouts

from kdet.train import Recipe, fit

FACTORS = (1.0, 0.1, 0.3)
LAYERS = (3, 5)
NORMS = ("batch", "frozen")
RESULTS = Path(__file__).parent / "results"


def recipe(detector: str, weights: str, seed: int, steps: int, lr: float, cell: dict[str, Any]) -> Recipe:
    """The student alone on blood cells, set up as recipes/bccd has it."""
    student = {"detector": detector, "backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64}
    return Recipe.model_validate(
        {
            "data": {
                "format": "coco",
                "train": "../shared/data/bccd/annotations_train.json",
                "val": "../shared/data/bccd/annotations_val.json",
                "image_size": 192,
                "augment": {"flip": 0.5, "vertical_flip": 0.5, "scale": [0.8, 1.25], "photometric": 0.5},
            },
            "student": {
                **student,
                "anchor_scale": 0.5,
                "backbone_weights": weights,
                "norm": cell["norm"],
                "trainable_layers": cell["trainable_layers"],
            },
            "train": {
                **{"epochs": 100, "max_steps": steps, "batch_size": 4, "optimizer": "adamw", "weight_decay": 0.05},
                **{"lr": lr, "backbone_lr": cell["backbone_lr"], "warmup_steps": 100, "clip_norm": 10.0},
                **{"evaluate_every": 0, "seed": seed, "log_every": 50},
            },
        }
    )


def main() -> None:
    """Run one detector's grid, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", nargs="?", choices=("retinanet", "faster_rcnn"))
    parser.add_argument("--weights", help="of MobileNetV2 with width 0.35")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS, help="of the grid's, to begin with")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return
    if arguments.detector is None or arguments.weights is None:
        parser.error("name a detector and --weights, or --table")
    torch.set_num_threads(1)
    runs = arguments.runs / f"{arguments.detector}-lr{arguments.lr:g}"
    for seed, cell in itertools.product(range(arguments.seeds), cells()):  # seed by seed, so that an early end is fair
        folder = runs / name_of(cell, seed)
        if cell["backbone_lr"] in arguments.factors and not (folder / "metrics.json").exists():
            own = recipe(arguments.detector, arguments.weights, seed, arguments.steps, arguments.lr, cell)
            fit(own, folder, resume=folder.exists())
            write(runs, {"detector": arguments.detector, "steps": arguments.steps, "lr": arguments.lr})


def cells() -> list[dict[str, Any]]:
    """The whole grid."""
    axes = {"backbone_lr": FACTORS, "norm": NORMS, "trainable_layers": LAYERS}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def name_of(cell: dict[str, Any], seed: int) -> str:
    """Of a run's folder."""
    return f"{cell['norm']}-{cell['trainable_layers']}-{cell['backbone_lr']:g}-seed{seed}"


def write(runs: Path, settings: dict[str, Any]) -> None:
    """What all runs that are there found."""
    found: list[dict[str, Any]] = []
    for cell in cells():
        files = [runs / name_of(cell, seed) / "metrics.json" for seed in range(100)]
        aps = [json.loads(file.read_text(encoding="utf-8"))["AP"] for file in files if file.exists()]
        found.append(cell | {"AP": [round(ap, 4) for ap in aps]})
    content = {**settings, "image_size": 192, "batch_size": 4, "cells": found, "environment": whereabouts()}
    (RESULTS / f"pretrained-{runs.name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def table() -> str:
    """All recorded results, the best cell of each first."""
    lines = ["| detector, lr | norm | trained stages | backbone's factor | AP of each seed | mean ± spread |"]
    lines.append("|---|---|---|---|---|---|")
    for path in sorted(RESULTS.glob("pretrained-*.json")):
        known = json.loads(path.read_text(encoding="utf-8"))
        for cell in sorted((cell for cell in known["cells"] if cell["AP"]), key=lambda cell: -mean(cell["AP"])):
            aps = cell["AP"]
            spread = f"{mean(aps):.3f} ± {stdev(aps):.3f}" if len(aps) > 1 else f"{aps[0]:.3f}"
            setting = f"{cell['norm']} | {cell['trainable_layers']} | {cell['backbone_lr']:g}"
            each = ", ".join(f"{ap:.3f}" for ap in aps)
            lines.append(f"| {known['detector']}, {known['lr']:g} | {setting} | {each} | {spread} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
