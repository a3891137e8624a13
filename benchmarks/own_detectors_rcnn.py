"""Does Cascade R-CNN learn? A short run on generated shapes, Faster R-CNN of the same size and steps beside it.

    python benchmarks/own_detectors_rcnn.py --out benchmarks/results/own-detectors-rcnn-cpu.json

One thread, one seed: this shows that the cascade learns, and no more. AP by IoU, for high overlaps are what it is for.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from kdet.train import Recipe, fit
from kdet.train.run_folder import environment

DETECTORS = ("faster_rcnn", "cascade_rcnn")
DATA = {"format": "shapes", "images": 800, "val_images": 100, "image_size": 96, "scale": [0.3, 0.6], "clutter": 0}
"""Large objects on calm ground, so that a few hundred steps show something."""
MODEL = {"backbone": "resnet18", "width": 0.5, "fpn_channels": 32, "anchor_scale": 0.5}
TRAIN = {
    "batch_size": 4,
    "optimizer": "adamw",
    "lr": 0.003,
    "weight_decay": 0.05,
    "warmup_steps": 50,
    "clip_norm": 10.0,
    "precision": "auto",
    "evaluate_every": 0,
}


def main() -> None:
    """Train both and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [trained(name, arguments.steps, arguments.seed, Path(folder)) for name in DETECTORS]
    about = {key: value for key, value in environment(arguments.seed).items() if key != "command"}
    setting = {"data": DATA, "model": MODEL, "train": TRAIN, "steps": arguments.steps, "threads": 1}
    content = {"what": "two-stage detectors on generated shapes", "setting": setting, "rows": rows}
    arguments.out.write_text(json.dumps(content | {"environment": about}, indent=1), encoding="utf-8")


def trained(name: str, steps: int, seed: int, folder: Path) -> dict[str, Any]:
    """One detector after so many steps."""
    epochs = -(-steps * TRAIN["batch_size"] // DATA["images"])
    train = TRAIN | {"epochs": epochs, "max_steps": steps, "seed": seed}
    recipe = Recipe.model_validate({"data": DATA, "student": {"detector": name, **MODEL}, "train": train})
    outcome = fit(recipe, folder / name)
    scores = {key: round(outcome.metrics[key], 4) for key in ("AP", "AP50", "AP75")}
    row = {"detector": name, "parameters": outcome.parameters, **scores, "train_seconds": round(outcome.seconds, 1)}
    print(json.dumps(row), flush=True)
    return row


if __name__ == "__main__":
    main()
