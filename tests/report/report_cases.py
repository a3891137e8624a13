"""Run folders as a run would leave them, written by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HOSTILE = '<script>alert("1")</script></style>\'"&amp;{{ 7 * 7 }}$\x07'

LABELS = {
    "teacher": "Teacher",
    "alone": "Student alone",
    "alone_same_time": "Student alone, distilled one's time",
    "alone_longer": "Student alone, four times as long",
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
        "per_class": {name: {"all": [max(0.0, ap - r / 200) for r in range(101)]} for name in classes},
    }
    environment = {"date": "2026-01-02", "commit": "abc1234", "cores": 2, "packages": {"torch": "2.15", "kdet": "0.1"}}
    files: dict[str, Any] = {"environment": environment, "metrics": metrics_of(ap, classes), "curves": curves}
    files["predictions"] = {"classes": list(classes), "image_ids": [1], "results": []}
    if teacher_ap is not None:
        files["teacher"] = metrics_of(teacher_ap, classes)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def add_maps(folder: Path, names: Sequence[str] = ("a.jpg", "b.jpg", "c.jpg"), *, teacher: bool = True) -> Path:
    """Give a run of `run_folder` what the end of a distilled run adds; images of 120×80, kept at half that size."""
    classes = json.loads((folder / "predictions.json").read_text())["classes"]
    (folder / "maps").mkdir()
    pictures = [_kept(folder / "maps", i, name, classes, inside=teacher and i < 3) for i, name in enumerate(names, 1)]
    about = {"compared_with": "teacher" if teacher else "truth", "pictures": pictures}
    (folder / "maps" / "maps.json").write_text(json.dumps(about))
    ids = list(range(1, len(names) + 1))
    found = [{"image_id": i, "category_id": 1, "bbox": [10, 20, 40, 30], "score": 0.9 - i / 10} for i in ids]
    faint = {"image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9], "score": 0.29}
    for name in ("predictions", "teacher-predictions")[: 1 + teacher]:
        results = [*found, faint] if name == "predictions" else found[:1]
        content = {"classes": classes, "image_ids": ids, "results": results}
        (folder / f"{name}.json").write_text(json.dumps(content))
    if teacher:
        (folder / "teacher-curves.json").write_text((folder / "curves.json").read_text())
    return folder


def _kept(out: Path, image_id: int, name: str, classes: Sequence[str], *, inside: bool) -> dict[str, Any]:
    """One picture with its maps: a ramp from dark to light."""
    Image.new("RGB", (60, 40), "white").save(out / f"{image_id}.jpg")
    about: dict[str, Any] = {"image_id": image_id, "name": name, "file": f"{image_id}.jpg", "width": 120, "height": 80}
    about["truth"] = [{"class": classes[0], "box_xyxy": [10.0, 20.0, 50.0, 50.0]}]
    about |= {"difference": 1.5 / image_id, "levels": []}
    Image.fromarray(np.linspace(0, 255, 96).reshape(8, 12).astype(np.uint8)).save(out / f"{image_id}-map.png")
    ends = {"file": f"{image_id}-map.png", "low": 0.125, "high": 2.5}
    for stride in (8, 16) if inside else ():
        alike = {"file": f"{image_id}-map.png", "low": 0.0, "high": 1.0, "mean": 0.625} if stride == 8 else None
        about["levels"].append({"stride": stride, "teacher": ends, "student": ends, "similarity": alike})
    return about


def demo_result(**aps: float) -> dict[str, Any]:
    """What `kdet demo` gives the page, for these APs."""
    rows = {
        name: {"AP": ap, "AP50": ap * 1.5, "parameters": 410_000, "train_seconds": 61.5, "gain": None}
        for name, ap in aps.items()
    }
    return rows | {"seed": 0, "seconds": 312.4}
