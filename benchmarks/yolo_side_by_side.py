"""The library's own distillation of YOLO beside kdet's, on blood cells: same data, pair, budget and seeds.

    make .venv-foreign/.installed
    .venv-foreign/bin/python benchmarks/yolo_side_by_side.py            # goes on where an earlier one ended
    python benchmarks/yolo_side_by_side.py --table                      # the recorded result for docs/results.md

Each side trains the student in its own loop, alone and distilled from one and the same teacher, which the library
trained. The loops differ (augmentation, warm-up, moving average), so a gain is read within a loop. AP is kdet's, of the
last epoch. Nothing was tuned on either side.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import yaml
from measuring import whereabouts

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "bccd"
RESULT = Path(__file__).parent / "results" / "yolo-side-by-side.json"
FACTORY = "benchmarks.yolo_models:build"
SIZE, BATCH, LR, DECAY = 128, 8, 0.002, 0.05
TEACHER = {"name": "yolo11", "width": 0.25}
STUDENT = {"name": "yolo11", "width": 0.125}
ARMS = ("library alone", "library distill_model", "kdet alone", "kdet structural")
THEIRS = {
    **{"imgsz": SIZE, "batch": BATCH, "nbs": BATCH, "optimizer": "AdamW", "lr0": LR, "weight_decay": DECAY},
    **{"lrf": 0.01, "cos_lr": True, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0},
    **{"mosaic": 0.0, "scale": 0.25, "flipud": 0.5, "fliplr": 0.5, "deterministic": True},
    **{"device": "cpu", "amp": False, "workers": 0, "val": False, "plots": False, "verbose": False, "exist_ok": True},
    "patience": 0,
}
"""Of `model.train`: what kdet's recipe says, where the library has it; the rest is its default."""


def main() -> None:
    """Run what is not there yet, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12, help="of the students")
    parser.add_argument("--teacher-epochs", type=int, default=16)
    parser.add_argument("--runs", type=Path, default=Path("runs/yolo-side-by-side"))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(RESULT.read_text())))
        return
    prepare()
    runs = arguments.runs.resolve()
    data = converted(runs / "data")
    rows = {
        "teacher": once(
            runs / "teacher.json", lambda: theirs(data, runs / "teacher", TEACHER, 0, arguments.teacher_epochs)
        )
    }
    teacher = str(runs / "teacher" / "weights" / "last.pt")
    for seed in range(arguments.seeds):
        for arm in ARMS:
            folder = runs / f"{arm.replace(' ', '-')}-{seed}"
            rows[f"{arm}/{seed}"] = once(
                folder.with_suffix(".json"),
                lambda f=folder, a=arm, s=seed: run(a, data, f, teacher, s, arguments.epochs),
            )
            record(rows, arguments)


def prepare() -> None:
    """One thread, no network, and the factory within reach and allowed."""
    from kdet.detectors import ALLOWED

    os.environ |= {"YOLO_OFFLINE": "true", ALLOWED: "1"}
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)


def converted(folder: Path) -> Path:
    """The library's copy of the data."""
    from kdet.data import convert, open_source

    if not (folder / "data.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        names = {split: DATA / f"annotations_{split}.json" for split in ("train", "val")}
        convert({s: open_source("coco", path, split=s) for s, path in names.items()}, "yolo", folder)
    return folder / "data.yaml"


def once(file: Path, job: Any) -> dict[str, Any]:
    """What the job found, or had found."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        before = os.getloadavg()[0]
        found = job()
        file.write_text(json.dumps(found | {"load": [before, os.getloadavg()[0]]}))
        print(file.stem, found, flush=True)
    return json.loads(file.read_text())


def run(arm: str, data: Path, folder: Path, teacher: str, seed: int, epochs: int) -> dict[str, Any]:
    """One arm."""
    if arm.startswith("library"):
        more = {"distill_model": teacher} if arm.endswith("distill_model") else {}
        return theirs(data, folder, STUDENT, seed, epochs, **more)
    return ours(folder, seed, epochs, teacher if arm.endswith("structural") else None)


def theirs(data: Path, folder: Path, model: dict[str, Any], seed: int, epochs: int, **more: Any) -> dict[str, Any]:
    """A run of the library's trainer."""
    from benchmarks.yolo_models import architecture
    from ultralytics import YOLO

    described = folder.parent / f"{folder.name}.yaml"
    described.parent.mkdir(parents=True, exist_ok=True)
    described.write_text(yaml.safe_dump(architecture(model["name"], model["width"], 0.5)))
    begin = time.perf_counter()
    YOLO(described, task="detect").train(
        data=str(data), epochs=epochs, seed=seed, project=str(folder.parent), name=folder.name, **THEIRS, **more
    )
    seconds = time.perf_counter() - begin
    return {"AP": ap_of(folder / "weights" / "last.pt"), "seconds": seconds}


def ours(folder: Path, seed: int, epochs: int, teacher: str | None) -> dict[str, Any]:
    """A run of kdet."""
    from kdet.train import fit, read_recipe

    recipe: dict[str, Any] = {
        "data": {
            "format": "coco",
            "train": str(DATA / "annotations_train.json"),
            "val": str(DATA / "annotations_val.json"),
            "image_size": SIZE,
            "augment": {"flip": 0.5, "vertical_flip": 0.5, "scale": [0.8, 1.25], "photometric": 0.5},
        },
        "student": {"factory": FACTORY, "options": STUDENT},
        "train": {
            **{"epochs": epochs, "batch_size": BATCH, "optimizer": "adamw", "lr": LR, "weight_decay": DECAY},
            **{"warmup_steps": 37, "clip_norm": 10.0, "precision": "fp32", "evaluate_every": 0, "seed": seed},
        },
    }
    if teacher is not None:
        recipe["teacher"] = {"factory": FACTORY, "options": {"weights": teacher}}
        recipe["distill"] = [{"method": "structural", "weight": "auto", "ratio": 3.0}]
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(recipe))
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    outcome = fit(read_recipe(file, []), folder)
    return {"AP": outcome.metrics["AP"], "seconds": time.perf_counter() - begin}


def ap_of(weights: Path) -> float:
    """kdet's AP of a checkpoint that the library wrote."""
    from benchmarks.yolo_models import build

    import kdet
    from kdet.data import DetectionDataset, Pipeline, evaluation_batches, make_loader, open_source
    from kdet.evaluate import evaluate

    source = open_source("coco", DATA / "annotations_val.json", split="val")
    detector = kdet.wrap(build(source.index.classes, weights=str(weights)), source.index.classes)
    dataset = DetectionDataset(source, Pipeline(SIZE, canvas=detector.canvas))
    loader = make_loader(dataset, evaluation_batches(len(dataset), batch_size=8))
    return evaluate(detector, loader, source.index, device="cpu").metrics.as_json()["AP"]


def record(rows: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Everything that was found so far."""
    import ultralytics

    settings = {"seeds": arguments.seeds, "epochs": arguments.epochs, "teacher_epochs": arguments.teacher_epochs}
    settings |= {"teacher": TEACHER, "student": STUDENT, "library": f"ultralytics {ultralytics.__version__}"}
    settings |= {"theirs": THEIRS, "threads": torch.get_num_threads()}
    RESULT.write_text(json.dumps({"where": whereabouts(), "settings": settings, "rows": rows}, indent=1) + "\n")


def table(result: dict[str, Any]) -> str:
    """Rows for docs/results.md."""
    from kdet.evaluate import paired_t_interval

    lines = ["| loop | arm | AP of each seed | mean ± spread | gain over alone | 95 % over seeds |"]
    lines.append("|---|---|---|---|---|---|")
    rows, seeds = result["rows"], range(result["settings"]["seeds"])
    lines.append(f"| library | teacher | {rows['teacher']['AP']:.3f} | | | |")
    for arm in ARMS:
        loop, what = arm.split(" ", 1)
        aps, alone = ([rows[f"{name}/{seed}"]["AP"] for seed in seeds] for name in (arm, f"{loop} alone"))
        each = ", ".join(f"{ap:.3f}" for ap in aps)
        gain = interval = ""
        if what != "alone":
            found = paired_t_interval([own - other for own, other in zip(aps, alone, strict=True)])
            gain = f"{mean(aps) - mean(alone):+.3f}".replace("-", "−")
            interval = "" if found is None else f"{found[0]:+.3f} … {found[1]:+.3f}".replace("-", "−")
        lines.append(f"| {loop} | {what} | {each} | {mean(aps):.3f} ± {stdev(aps):.3f} | {gain} | {interval} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
