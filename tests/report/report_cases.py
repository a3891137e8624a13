"""Run folders as a run would leave them, written by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOSTILE = '<script>alert("1")</script></style>\'"&amp;{{ 7 * 7 }}$\x07'

LABELS = {
    "teacher": "Teacher",
    "alone": "Student alone",
    "alone_same_time": "Student alone, distilled one's time",
    "l2": "Student, plain L2",
    "distilled": "Student, structural distillation",
}


def metrics_of(ap: float, classes: Sequence[str] = ("circle", "square", "triangle")) -> dict[str, Any]:
    """Something shaped like metrics.json around an AP; AP_L has nothing to measure."""
    six = {"AP": ap, "AP50": ap * 1.4 + 0.01234567, "AP75": ap * 0.9, "AP_S": ap / 2, "AP_M": ap * 1.1, "AP_L": None}
    per_class = {name: six | {"AP": ap + 0.05 - 0.05 * i} for i, name in enumerate(classes)}
    return six | {"per_class": per_class, "best": {"epoch": 2, "AP": ap + 0.01}, "epoch": 3}


def step(number: int, **values: Any) -> dict[str, Any]:
    """One training record."""
    parts = {"task/classification": 40 / (number + 20), "task/box": 20 / (number + 30)}
    record = {"kind": "step", "step": number, "epoch": number // 10, "lr": 0.01, "total": sum(parts.values())}
    return record | {"parts": parts, "images_per_second": 100.0} | values


def look(epoch: int, ap: float) -> dict[str, Any]:
    """One evaluation record."""
    return {"kind": "eval", "epoch": epoch, "step": epoch * 10, "metrics": {"AP": ap, "AP50": ap * 1.4}}


def run_folder(
    folder: Path,
    *,
    ap: float = 0.31234567,
    classes: Sequence[str] = ("circle", "square", "triangle"),
    records: Sequence[dict[str, Any]] | None = None,
    distil: Sequence[str] = (),
    teacher_ap: float | None = None,
) -> Path:
    """A finished run."""
    folder.mkdir(parents=True)
    terms = "".join(f"- method: {name}\n  weight: 4.0\n" for name in distil)
    recipe = "student:\n  detector: retinanet\n  backbone: resnet10\n  width: 0.25\n"
    (folder / "recipe.yaml").write_text(recipe + (f"distill:\n{terms}" if terms else "distill: []\n"))
    if records is None:
        records = [*(step(n) for n in range(1, 41)), *(look(e, ap * (e + 1) / 4) for e in range(4))]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    curves = {
        "recall": [r / 100 for r in range(101)],
        "precision": {"50": [max(0.0, ap + 0.6 - r / 120) for r in range(101)], "75": None},
        "iou": [t / 100 for t in range(50, 100, 5)],
        "AP_per_iou": [max(0.0, ap * (1.4 - t / 8)) for t in range(10)],
    }
    environment = {"date": "2026-01-02", "commit": "abc1234", "cores": 2, "packages": {"torch": "2.15", "kdet": "0.1"}}
    files: dict[str, Any] = {"environment": environment, "metrics": metrics_of(ap, classes), "curves": curves}
    files["predictions"] = {"classes": list(classes), "image_ids": [1], "results": []}
    if teacher_ap is not None:
        files["teacher"] = metrics_of(teacher_ap, classes)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def demo_result(**aps: float) -> dict[str, Any]:
    """What `kdet demo` gives the page, for these APs."""
    rows = {
        name: {"AP": ap, "AP50": ap * 1.5, "parameters": 410_000, "train_seconds": 61.5, "gain": None}
        for name, ap in aps.items()
    }
    return rows | {"seed": 0, "seconds": 312.4}
