"""Do the detectors of our own learn? ATSS and GFL beside torchvision's RetinaNet, on generated shapes.

    python benchmarks/own_detectors.py --out benchmarks/results/own-detectors-cpu.json

All have one backbone, neck, data and budget, and the learning rate that suits RetinaNet: this shows that each learns,
not which is best. Runs are kept under --runs, and those that are there are not repeated.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from kdet.train import Recipe, fit
from kdet.train.run_folder import environment

DETECTORS = ("retinanet", "atss", "gfl")
DATA: dict[str, Any] = {"format": "shapes", "images": 600, "val_images": 200, "image_size": 96}
STUDENT: dict[str, Any] = {"backbone": "resnet18", "width": 0.5, "fpn_channels": 64, "anchor_scale": 0.5}
TRAIN: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.05,
    "warmup_steps": 50,
    "clip_norm": 10.0,
    "precision": "auto",
    "evaluate_every": 0,
}


def main() -> None:
    """Train what is missing and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/own-detectors"), help="where the runs are kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    about = {key: value for key, value in environment(0).items() if key not in ("command", "seed")}
    torch.set_num_threads(1)  # networks this small gain little from a second thread
    rows = [row(name, arguments.seed, arguments.runs) for name in DETECTORS]
    content = {
        "what": "ATSS and GFL beside RetinaNet on generated shapes: AP at the last epoch, one thread",
        "recipe": {"data": DATA, "student": STUDENT, "train": TRAIN},
        "seed": arguments.seed,
        "rows": rows,
        "environment": about,
    }
    arguments.out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def row(detector: str, seed: int, runs: Path) -> dict[str, Any]:
    """One line of the result, shown as it comes."""
    folder = runs / f"{detector}-{seed}"
    kept = folder / "seconds.json"
    if not kept.exists():
        start = time.perf_counter()
        fit(recipe_of(detector, seed), folder)
        kept.write_text(json.dumps(round(time.perf_counter() - start)), encoding="utf-8")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    scores = {name: round(metrics[name], 4) for name in ("AP", "AP50", "AP75")}
    result = {"detector": detector, **scores, "seconds": json.loads(kept.read_text(encoding="utf-8"))}
    print(json.dumps(result), flush=True)
    return result


def recipe_of(detector: str, seed: int) -> Recipe:
    """One detector at the common budget."""
    student = {"detector": detector, **STUDENT}
    return Recipe.model_validate({"data": DATA, "student": student, "train": {**TRAIN, "seed": seed}})


if __name__ == "__main__":
    main()
