"""Do the detectors of our own learn? ATSS and GFL beside RetinaNet, Cascade R-CNN beside Faster R-CNN.

    python benchmarks/own_detectors.py dense --out benchmarks/results/own-detectors-cpu.json
    python benchmarks/own_detectors.py two_stage --out benchmarks/results/own-detectors-rcnn-cpu.json

The detectors of a group have one backbone, neck, data and budget, and a learning rate that suits torchvision's: this
shows that each learns, and no more. One thread, one seed. Runs are kept under --runs, and those that are there are not
repeated.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from measuring import whereabouts

from kdet.train import Recipe, fit

TRAIN: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.05,
    "warmup_steps": 50,
    "clip_norm": 10.0,
    "precision": "auto",
    "evaluate_every": 0,
}
GROUPS: dict[str, dict[str, Any]] = {
    "dense": {
        "detectors": ("retinanet", "atss", "gfl"),
        "data": {"format": "shapes", "images": 600, "val_images": 200, "image_size": 96},
        "student": {"backbone": "resnet18", "width": 0.5, "fpn_channels": 64, "anchor_scale": 0.5},
        "train": {**TRAIN, "epochs": 10, "batch_size": 16},
    },
    "two_stage": {  # large objects on calm ground, so that a few hundred steps show something
        "detectors": ("faster_rcnn", "cascade_rcnn"),
        "data": {
            "format": "shapes",
            "images": 800,
            "val_images": 100,
            "image_size": 96,
            "scale": [0.3, 0.6],
            "clutter": 0,
        },
        "student": {"backbone": "resnet18", "width": 0.5, "fpn_channels": 32, "anchor_scale": 0.5},
        "train": {**TRAIN, "epochs": 2, "batch_size": 4, "max_steps": 250},
    },
}


def main() -> None:
    """Train what is missing of a group and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/own-detectors"), help="where the runs are kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # networks this small gain little from a second thread
    group = GROUPS[arguments.group]
    rows = [row(name, group, arguments.seed, arguments.runs) for name in group["detectors"]]
    content = {"what": f"{arguments.group} detectors on generated shapes, one thread", "recipe": group, "rows": rows}
    arguments.out.write_text(json.dumps(content | {"environment": whereabouts()}, indent=1), encoding="utf-8")


def row(detector: str, group: dict[str, Any], seed: int, runs: Path) -> dict[str, Any]:
    """One line of the result, shown as it comes."""
    kept = runs / f"{detector}-{seed}.json"
    if not kept.exists():
        recipe = Recipe.model_validate(
            {
                "data": group["data"],
                "student": {"detector": detector, **group["student"]},
                "train": {**group["train"], "seed": seed},
            }
        )
        outcome = fit(recipe, kept.with_suffix(""))
        scores = {name: round(outcome.metrics[name], 4) for name in ("AP", "AP50", "AP75")}
        about = {"detector": detector, "parameters": outcome.parameters, **scores, "seconds": round(outcome.seconds)}
        kept.write_text(json.dumps(about), encoding="utf-8")
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    print(json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    main()
