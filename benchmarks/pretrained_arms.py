"""Ways to train a YOLOX-nano that starts from COCO weights, and the record of what they came to.

Used by fine_tuning.py and figure.py. AP is that of the last weights on the validation images; where a plan chooses a
setting, on a part of the training images that is held out instead. Weights come from `../shared/data/weights`.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measuring import whereabouts

from kdet.train import Recipe, fit

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
COCO = str(SHARED / "weights" / "yolox_nano_coco.safetensors")
STUDENT = {"detector": "libreyolo", "config": {"model": "yolox", "size": "n"}, "weights": COCO}
"""The teacher's, too."""
ADAMW = {"optimizer": "adamw", "weight_decay": 0.05, "lr_schedule": "cosine", "ema": 0.9998}
TRAIN = {**ADAMW, "lr": 0.003, "batch_size": 4, "warmup_steps": 36, "precision": "fp32"}
"""The best of fine_tuning.py's plan `learners` for the student alone."""
AUGMENT = {
    "bccd": {"flip": 0.5, "vertical_flip": 0.5, "scale": [0.8, 1.25], "photometric": 0.5},
    "aquarium": {"flip": 0.5, "scale": [0.8, 1.25], "photometric": 0.5},
}
TEACHER_STEPS = 576


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train a student; seeds aside, all that its AP depends on."""

    data: str = "bccd"
    labels: float = 0.125
    """Share of the training images that the student has."""
    size: int = 192
    steps: int = 320
    hold_out: float | None = None
    teacher_size: int = 192
    teacher_labels: float = 1.0
    """Share of the training images that the teacher had."""
    terms: tuple[dict[str, Any], ...] | None = None
    """None = no teacher; an empty tuple = one whose boxes on unlabelled images are all that is learned from it."""
    unlabelled: dict[str, Any] | None = None
    teacher_keys: dict[str, Any] = field(default_factory=dict[str, Any])
    train: dict[str, Any] = field(default_factory=dict[str, Any])

    def recipe(self, seed: int, teacher: Path | None) -> Recipe:
        """As kdet reads it."""
        data: dict[str, Any] = {
            **{"format": "coco", "image_size": self.size, "augment": AUGMENT[self.data], "labels": self.labels},
            **{split: str(SHARED / self.data / f"annotations_{split}.json") for split in ("train", "val")},
            **({} if self.hold_out is None else {"hold_out": self.hold_out}),
            **({} if self.unlabelled is None else {"unlabelled": self.unlabelled}),
        }
        ends = {"epochs": 100_000, "max_steps": self.steps, "evaluate_every": 0, "seed": seed}
        train = {**TRAIN, **self.train, **ends, "workers": 0, "log_every": 40}
        content: dict[str, Any] = {"data": data, "student": STUDENT, "train": train}
        if teacher is not None:
            larger = {} if self.teacher_size == self.size else {"image_size": self.teacher_size}
            content["teacher"] = {"run": str(teacher), **larger, **self.teacher_keys}
            content |= {"distill": list(self.terms)} if self.terms else {}
        return Recipe.model_validate(content)

    def teacher(self) -> "Arm":
        """Its teacher: the same detector, on larger images or with more labels."""
        return Arm(
            data=self.data,
            labels=self.teacher_labels,
            size=self.teacher_size,
            steps=TEACHER_STEPS,
            hold_out=self.hold_out,
        )

    @property
    def teacher_name(self) -> str:
        """Of the teacher's run, and of its record."""
        own = self.teacher()
        parts = [
            *([] if own.data == "bccd" else [own.data]),
            f"{own.size}-{own.steps}",
            *([f"holdout{own.hold_out:g}"] if own.hold_out else []),
            *([] if own.labels == 1 else [f"labels{own.labels:g}"]),
        ]
        return "-".join(parts)


def run(result: str, name: str, arm: Arm, seed: int, runs: Path) -> None:
    """One arm of one seed, after its teacher; nothing where it is recorded."""
    key = f"{name}/{seed}"
    if key in known(result):
        return
    torch.set_num_threads(1)
    teacher = None
    if arm.terms is not None:
        teacher = runs / "teachers" / arm.teacher_name
        if not (teacher / "metrics.json").exists():
            found = fit(arm.teacher().recipe(0, None), teacher, resume=teacher.exists())
            record(result, f"teacher {arm.teacher_name}", {"AP": rounded(found.metrics)})
    folder = runs / result / key.replace(" ", "-").replace("/", "-seed")
    begin = time.process_time()
    found = fit(arm.recipe(seed, teacher), folder, resume=folder.exists())
    seconds = round(time.process_time() - begin)  # of the processor: other work beside it does not count
    record(result, key, {"AP": rounded(found.metrics), "seconds": seconds})


def rounded(metrics: Any) -> dict[str, float]:
    """AP over all objects, and by their size."""
    return {key: round(metrics[key], 4) for key in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L") if key in metrics}


def record(result: str, key: str, found: dict[str, Any]) -> None:
    """Beside what is there already; another process may have written meanwhile."""
    found |= {"where": whereabouts(), "load": round(os.getloadavg()[0], 1)}
    path(result).write_text(json.dumps({**known(result), key: found}, indent=1) + "\n", encoding="utf-8")
    print(result, key, found["AP"], flush=True)


def known(result: str) -> dict[str, Any]:
    """All that was found so far."""
    return json.loads(path(result).read_text(encoding="utf-8")) if path(result).exists() else {}


def path(result: str) -> Path:
    """Of a file of results."""
    return RESULTS / f"{result}.json"
