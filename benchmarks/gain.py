"""What does each method gain on real images, when plain L2 is no straw man?

    python benchmarks/gain.py bccd --budget 2h           # one folder: teacher, choice of weights, paired runs, result
    python benchmarks/gain.py --table                    # the recorded results as a table for docs/results.md

Every method gets its weight from one small grid, as a share of the task's gradient (`weight: auto`), so that the grid
is the same for all. The share is chosen on a fifth of the training images that is held out for it (the teacher has seen
them); the validation images are looked at once, by `kdet compare`, with several seeds. Runs are kept under --runs, and
those that are there are not repeated: the same command goes on where an earlier one ended. What was not run is marked,
never filled in.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import whereabouts

from kdet.train import Recipe, read_recipe
from kdet.train.recipe.models import TermRecipe
from kdet.workflows.compare.rounds import require_same_recipe, train_one
from kdet.workflows.compare.run import compare
from kdet.workflows.compare.workers import Workers

RECIPES = {
    "shapes": ("shapes/teacher.yaml", "shapes/structural.yaml"),
    "bccd": ("bccd/retinanet_teacher.yaml", "bccd/retinanet_structural.yaml"),
    "aquarium": ("aquarium/retinanet_teacher.yaml", "aquarium/retinanet_structural.yaml"),
}
"""Teacher and student; the `distill:` of the second is replaced."""
ARMS = ("l2", "structural", "rank_mimicking+prediction_guided", "pkd")
"""What is run unless --arms says otherwise."""
FURTHER = (
    "structural+rank_mimicking+prediction_guided",
    "cwd",
    "fgd",
    "mgd",
    "hint",
    "attention_transfer",
    "soft_labels",
)
"""Rows of the table that are marked until somebody runs them."""
SHARES = (0.1, 1.0, 10.0)
TUNING_SEED = 1000
HOLD_OUT = 0.2
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run one folder, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", choices=RECIPES)
    parser.add_argument("--arms", default=",".join(ARMS), help="methods; + joins those of one arm")
    parser.add_argument("--labels", type=float, default=1.0, help="share of the training images that is used")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of the students; default: the recipe's")
    parser.add_argument("--teacher-epochs", type=int, help="of the teacher; default: the recipe's")
    parser.add_argument("--choice-epochs", type=int, help="of the runs that choose weights; default: the students'")
    parser.add_argument("-o", dest="options", action="append", default=[], help="recipe key of teacher and students")
    parser.add_argument("-t", dest="teacher", action="append", default=[], help="recipe key of the teacher alone")
    parser.add_argument("--budget", help="for the paired runs, such as 2h")
    parser.add_argument("--runs", type=Path, default=Path("runs/gain"))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return
    if arguments.data is None:
        parser.error("name a folder of data, or --table")
    folder = arguments.runs / f"{arguments.data}-labels-{arguments.labels:g}"
    own = [f"data.labels={arguments.labels:g}", *arguments.options]
    teacher, student = (Path("recipes") / name for name in RECIPES[arguments.data])
    train({folder / "teacher": read_recipe(teacher, own + arguments.teacher + epochs(arguments.teacher_epochs))})
    own.append(f"teacher.run={folder / 'teacher'}")
    recipe = read_recipe(student, own + epochs(arguments.epochs))
    short = read_recipe(student, own + epochs(arguments.choice_epochs or arguments.epochs))
    arms = {name: best_terms(short, name, folder / "choice") for name in arguments.arms.split(",")}
    recipe = recipe.model_copy(update={"arms": {safe(name): found["terms"] for name, found in arms.items()}})
    names = ["none", *map(safe, arms)]
    result = compare(recipe, names, num_seeds=arguments.seeds, out=folder / "compare", budget=arguments.budget)
    content = {
        "data": arguments.data,
        "labels": arguments.labels,
        "epochs": {"student": recipe.train.epochs, "choice": short.train.epochs, "teacher": arguments.teacher_epochs},
        "options": {"both": arguments.options, "teacher": arguments.teacher},
        "precision": recipe.train.precision,
        "seeds": len(result["seeds"]),
        "choices": {name: found["tried"] for name, found in arms.items()},
        "compare": {key: result[key] for key in ("arms", "teacher", "left_out")},
        "environment": whereabouts(),
    }
    path = RESULTS / f"gain-{arguments.data}-labels-{arguments.labels:g}.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def epochs(number: int | None) -> list[str]:
    """As a recipe option, where it is given."""
    return [] if number is None else [f"train.epochs={number}"]


def best_terms(recipe: Recipe, arm: str, runs: Path) -> dict[str, Any]:
    """The terms at the share that is best on held-out training images, and what was tried."""
    data = recipe.data.model_copy(update={"hold_out": HOLD_OUT})
    settings = recipe.train.model_copy(update={"seed": TUNING_SEED})
    common = recipe.model_copy(update={"data": data, "train": settings, "arms": {}})
    folders = {share: runs / f"{safe(arm)}-{share:g}" for share in SHARES}
    train({folder: common.model_copy(update={"distill": terms(arm, share)}) for share, folder in folders.items()})
    tried: dict[float, float] = {}
    for share, folder in folders.items():
        tried[share] = float(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["AP"])
        print(f"{arm}, share {share:g}: AP {tried[share]:.4f} held out", flush=True)
    best = max(tried, key=lambda share: tried[share])
    return {"terms": terms(arm, best), "tried": {f"{share:g}": round(ap, 4) for share, ap in tried.items()}}


def terms(arm: str, share: float) -> list[TermRecipe]:
    """One term a method, all of them auto."""
    return [TermRecipe(method=method, weight="auto", ratio=share) for method in arm.split("+")]


def train(runs: Mapping[Path, Recipe]) -> None:
    """Those that are not there yet, beside each other as `kdet compare` makes them."""
    for folder, recipe in runs.items():
        require_same_recipe(recipe, folder)
    with Workers() as workers:
        waiting = [
            workers.submit(train_one, recipe, folder)
            for folder, recipe in runs.items()
            if not (folder / "cost.json").exists()
        ]
        for future in waiting:
            future.result()


def safe(arm: str) -> str:
    """A name under `arms:`."""
    return arm.replace("+", "-and-")


def table() -> str:
    """All recorded results; what was not run says so."""
    lines = ["| data, labels | arm | share | AP of each seed | gain | interval over seeds | over images | verdict |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for data in RECIPES:
        for labels in (1.0, 0.5, 0.25):
            path = RESULTS / f"gain-{data}-labels-{labels:g}.json"
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            lines += rows(f"{data}, {labels:g}", known)
    return "\n".join(lines)


def rows(label: str, known: dict[str, Any] | None) -> list[str]:
    """Of one folder and share of the labels; what was not run stands in one row."""
    arms = {row["name"]: row for row in known["compare"]["arms"]} if known else {}
    lines: list[str] = []
    for name in ("none", *ARMS, *FURTHER):
        row = arms.get(safe(name))
        if row is None or known is None:
            continue
        tried = known["choices"].get(name, {})
        share = max(tried, key=lambda key: tried[key]) if tried else ""
        aps = ", ".join(f"{ap:.3f}" for ap in row["AP"])
        gain = "" if row["gain"] is None else f"{row['gain']:+.3f}"
        intervals = [f"{i[0]:+.3f} … {i[1]:+.3f}" if i else "" for i in (row["interval"], row["image_interval"])]
        lines.append(
            f"| {label} | {name} | {share} | {aps} | {gain} | {' | '.join(intervals)} | {row['verdict'] or ''} |"
        )
    missing = [name for name in ("none", *ARMS, *FURTHER) if safe(name) not in arms]
    what = "everything" if not arms else ", ".join(missing)
    return [*lines, f"| {label} | {what} | not run | | | | | |"] if missing else lines


if __name__ == "__main__":
    main()
