"""kdet demo: a teacher, a small student alone and distilled, on generated images, with nothing left out.

Students start from random weights and stop early, so what the demo shows is speed: how much sooner a student learns
under a teacher. The student alone that trains four times as long stands beside them, to say what "train longer" gives.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdet.errors import InputError
from kdet.report import demo_page, write_page
from kdet.train import Outcome, Recipe, open_data
from kdet.train.state.run_folder import write_json
from kdet.workflows.compare.rounds import go_on
from kdet.workflows.compare.workers import processes, stopping_children
from kdet.workflows.gallery import gallery

DATA: dict[str, Any] = {"format": "shapes", "images": 2000, "val_images": 400, "image_size": 96}
NECK: dict[str, Any] = {"detector": "retinanet", "fpn_channels": 64, "anchor_scale": 0.5}
TEACHER = NECK | {"backbone": "resnet18", "width": 0.5}
STUDENT = NECK | {"backbone": "resnet10", "width": 0.25}
TRAIN: dict[str, Any] = {
    "batch_size": 16,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "warmup_steps": 100,
    "clip_norm": 10.0,
    "precision": "auto",
    "evaluate_every": 0,
}
TEACHER_EPOCHS, STUDENT_EPOCHS = 10, 4
LONGER = 4.0
"""Factor on the student's epochs in `alone_longer`; LABELS says it in words."""
TEACHER_LR = 3e-3
STUDENT_LR = 3e-3
"""The best for the student *alone* of a grid on other seeds; benchmarks/demo_grid.py, docs/results.md."""
_RESULT = "demo.json"
DISTILL: dict[str, list[dict[str, Any]]] = {
    "distilled": [{"method": "structural", "ratio": 3.0}],
    "l2": [{"method": "l2", "ratio": 3.0}],
}
"""Harder than by default: these students start from random weights and have no time (docs/adr/0004-share.md)."""

LABELS = {
    "teacher": "Teacher",
    "alone": "Student alone",
    "alone_same_time": "Student alone, distilled one's time",
    "alone_longer": "Student alone, four times as long",
    "l2": "Student, plain L2",
    "distilled": "Student, structural distillation",
}
"""Rows of the table, in its order."""


def run_demo(out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Train all arms, compare them, write pictures and a page.

    Args:
        out: a new folder, or that of a demo that was interrupted, which goes on; the runs lie in it.
        seed: of every run; the images are the same for all seeds.

    Returns:
        One record an arm (AP, AP50, parameters, seconds, gain over alone), and the seconds of the whole.

    Raises:
        InputError: the folder is in use.
    """
    started = time.monotonic()
    own = {*LABELS, "pictures", "index.html"}
    if out.exists() and {path.name for path in out.iterdir()} - own:
        raise InputError(f"{out}: is not empty; name another folder with --out")
    runs = {name: out / name for name in LABELS}
    done = {"teacher": go_on(recipe_of("teacher", seed), runs["teacher"])}
    # Every student has one core and a neighbour, so their times compare.
    with processes(2, threads=1) as pool, stopping_children():

        def together(recipes: Mapping[str, Recipe]) -> None:
            waiting = {name: pool.submit(go_on, recipe, runs[name]) for name, recipe in recipes.items()}
            done.update({name: outcome.result() for name, outcome in waiting.items()})

        students = {name: recipe_of(name, seed, teacher=runs["teacher"]) for name in ("alone", "distilled", "l2")}
        together({name: students[name] for name in ("alone", "distilled")})
        same_time = done["distilled"].seconds / done["alone"].seconds
        longest_first = {
            "alone_longer": recipe_of("alone", seed, longer=LONGER),
            "alone_same_time": recipe_of("alone", seed, longer=same_time),
            "l2": students["l2"],
        }
        together(longest_first)
    result = summary(done, seed) | {"seconds": round(time.monotonic() - started, 1)}
    shown = {LABELS[name]: runs[name] for name in ("teacher", "alone", "distilled")}
    pictures = gallery(open_data(recipe_of("alone", seed)).val, shown, out / "pictures")
    page = demo_page(result, labels=LABELS, pictures=pictures, runs=runs)
    write_page(out / "index.html", page)
    write_json(out / _RESULT, result)
    return result


def recipe_of(
    arm: str, seed: int, *, teacher: Path | None = None, longer: float = 1.0, lr: float | None = None
) -> Recipe:
    """Return the recipe of an arm; all students share data, budget and learning rate.

    Args:
        arm: teacher, alone, or a key of DISTILL.
        seed: of the run.
        teacher: the teacher's run folder, for the arms of DISTILL.
        longer: factor on the number of steps; the schedule stretches with it.
        lr: another learning rate, for the grid that chose STUDENT_LR.
    """
    is_teacher = arm == "teacher"
    epochs = TEACHER_EPOCHS if is_teacher else STUDENT_EPOCHS
    steps = round(epochs * (DATA["images"] // TRAIN["batch_size"]) * longer)
    train = TRAIN | {"epochs": math.ceil(epochs * longer), "max_steps": steps, "seed": seed}
    train["lr"] = lr or (TEACHER_LR if is_teacher else STUDENT_LR)
    content: dict[str, Any] = {"data": DATA, "student": TEACHER if is_teacher else STUDENT, "train": train}
    if arm in DISTILL:
        content |= {"teacher": {"run": str(teacher)}, "distill": DISTILL[arm]}
    return Recipe.model_validate(content)


def summary(done: Mapping[str, Outcome], seed: int) -> dict[str, Any]:
    """Return the table's numbers; AP is that of the last epoch."""
    alone = done["alone"].metrics["AP"]
    rows = {
        name: {
            "AP": outcome.metrics["AP"],
            "AP50": outcome.metrics["AP50"],
            "parameters": outcome.parameters,
            "steps": outcome.steps,
            "train_seconds": round(outcome.seconds, 1),
            "gain": None if name in ("teacher", "alone") else outcome.metrics["AP"] - alone,
        }
        for name, outcome in done.items()
    }
    return {name: rows[name] for name in LABELS} | {"seed": seed}


def table(result: Mapping[str, Any]) -> str:
    """Return the comparison as text."""
    lines = [f"{'':<38}{'parameters':>11}{'AP':>8}{'AP50':>8}{'time':>8}{'gain':>9}"]
    for name, label in LABELS.items():
        row = result[name]
        gain = "" if row["gain"] is None else f"{row['gain']:+.3f}"
        numbers = f"{row['parameters'] / 1e6:>10.2f}M{row['AP']:>8.3f}{row['AP50']:>8.3f}{row['train_seconds']:>7.0f}s"
        lines.append(f"{label:<38}{numbers}{gain:>9}")
    lines.append("students start from random weights and stop early: this shows speed, not where training ends")
    lines.append(
        f"one seed ({result['seed']}), {result['seconds']:.0f} s in all; one seed shows a difference, it proves none"
    )
    return "\n".join(lines)
