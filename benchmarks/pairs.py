"""Do pairs of different families, classes and sizes train? The recipes of recipes/pairs, once for real.

    python benchmarks/pairs.py shapes                     # all of them, as the recipes are
    python benchmarks/pairs.py bccd --pairs gfl_retinanet # the same pair on real images

Each pair is a teacher, the student alone and the distilled student, one seed each: it shows that a pair runs and what
came out, and proves no gain. Runs are kept under --runs, and those that are there are not repeated.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from gain import train
from measuring import whereabouts

from kdet.detectors import ALLOWED
from kdet.train import read_recipe

RECIPES = Path("recipes/pairs")
RESULTS = Path(__file__).parent / "results"
BCCD = Path("../shared/data/bccd")
ONLY_SHAPES = ("twenty_five",)
"""Twenty classes are generated."""


def main() -> None:
    """Run the pairs of one data set and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["shapes", "bccd"])
    parser.add_argument("--pairs", help="names, with commas; default: all that the data can serve")
    parser.add_argument("--runs", type=Path, default=Path("runs/pairs"))
    parser.add_argument("-o", dest="options", action="append", default=[], help="recipe key of every run")
    arguments = parser.parse_args()
    os.environ[ALLOWED] = "1"  # recipes/pairs/own_module.py
    known = sorted(path.stem for path in RECIPES.glob("*.yaml") if not path.stem.endswith("_teacher"))
    names = arguments.pairs.split(",") if arguments.pairs else known
    path = RESULTS / f"pairs-{arguments.data}.json"
    for name in names:
        if arguments.data != "shapes" and name in ONLY_SHAPES:
            continue
        found = pair(name, arguments.data, arguments.options, arguments.runs / arguments.data)
        print(name, json.dumps(found["AP"]), flush=True)
        known_results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps({**known_results, name: found}, indent=1), encoding="utf-8")


def on_bccd(size: int) -> list[str]:
    """The blood cells in place of the recipe's data."""
    files = f"train: {BCCD}/annotations_train.json, val: {BCCD}/annotations_val.json"
    return [f"data={{format: coco, {files}, image_size: {size}, augment: {{flip: 0.5, vertical_flip: 0.5}}}}"]


def pair(name: str, data: str, given: list[str], runs: Path) -> dict[str, Any]:
    """AP of teacher, student alone and distilled student at their last epochs; bccd at twice the recipes' sizes."""
    recipes = {kind: RECIPES / f"{name}{ending}.yaml" for kind, ending in (("teacher", "_teacher"), ("student", ""))}
    options = {kind: list(given) for kind in recipes}
    if data == "bccd":
        for kind, path in recipes.items():
            # `data` as a whole first: a given `data.labels` then changes it.
            options[kind][:0] = on_bccd(2 * int(read_recipe(path).data.image_size))  # type: ignore[call-overload]
        if (size := read_recipe(recipes["student"]).teachers[0].image_size) is not None:
            options["student"].append(f"teacher.image_size={2 * int(size)}")  # type: ignore[call-overload]
    folders = {kind: runs / name / kind for kind in ("teacher", "alone", "distilled")}
    student = read_recipe(recipes["student"], [*options["student"], f"teacher.run={folders['teacher']}"])
    train({folders["teacher"]: read_recipe(recipes["teacher"], options["teacher"])})
    train({folders["alone"]: student.alone(), folders["distilled"]: student})
    scores = {kind: json.loads((folder / "metrics.json").read_text())["AP"] for kind, folder in folders.items()}
    return {
        "AP": {kind: round(ap, 4) for kind, ap in scores.items()},
        "distill": [term.method for term in student.distill],
        "epochs": student.train.epochs,
        "options": given,
        "environment": whereabouts(),
    }


if __name__ == "__main__":
    main()
