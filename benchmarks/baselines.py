"""Is the student alone as good in kdet as its own library makes it? Blood cells, the same start and budget, five seeds.

    make .venv-foreign/.installed
    .venv-foreign/bin/python benchmarks/baselines.py library              # each run once; goes on where it ended
    .venv-foreign/bin/python benchmarks/baselines.py kdet --redo          # all of kdet's runs anew
    .venv-foreign/bin/python benchmarks/baselines.py scores               # AP of the library's weights anew
    python benchmarks/baselines.py table                                  # the recorded result into docs/baselines.md

Both sides build the student in the same way, from the same weights where there are any, and see each training image as
often. AP is `kdet evaluate`'s, of the last epoch's weights (their moving average where a loop keeps one). Nothing was
tuned on either side: kdet's recipes say the library's numbers, as far as they have a key for them. What the loops do
beside that stands in docs/baselines.md; what they are given, in baselines_families.py; the loops, in library_loops.py.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from baselines_families import FAMILIES, Family
from library_loops import Task
from measuring import fill, whereabouts
from yolo_side_by_side import ROOT, prepare

DATA = {"cells": ROOT.parent / "shared" / "data" / "bccd", "shapes": ROOT / "runs" / "baselines" / "shapes"}
SHAPES = {"images": 480, "val_images": 160, "image_size": 96, "scale": (0.3, 0.6), "clutter": 0}
"""Few large objects on calm ground: set detectors with random weights find nothing else in a few hundred steps."""
RESULT = Path(__file__).parent / "results" / "baselines.json"
PAGE = ROOT / "docs" / "baselines.md"
SEEDS = 5


def main() -> None:
    """Run what is not there yet, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["library", "kdet", "scores", "table"])
    parser.add_argument("--only", nargs="*", choices=FAMILIES, default=list(FAMILIES), help="these families")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--redo", action="store_true", help="also what is there")
    parser.add_argument("--runs", type=Path, default=Path("runs/baselines"))
    arguments = parser.parse_args()
    if arguments.what == "table":
        fill(PAGE, "python benchmarks/baselines.py table", table())
        return
    prepare()
    make_shapes()
    for seed in range(arguments.seeds):
        for name in arguments.only:
            family = FAMILIES[name]
            for arm in ["kdet"] if arguments.what == "kdet" else family.arms:
                folder = (arguments.runs / f"{name}-{arm}-{seed}".replace(" ", "-")).resolve()
                job = {"library": by_library, "kdet": by_kdet, "scores": anew}[arguments.what]
                redo = arguments.redo or arguments.what == "scores"
                recorded(f"{name}/{arm}/{seed}", redo, lambda j=job, f=family, a=arm, s=seed, d=folder: j(f, a, s, d))


def make_shapes() -> None:
    """The generated data, where they are not there yet."""
    from kdet.data import Shapes, convert, open_source

    if not DATA["shapes"].exists():
        splits = {split: open_source("shapes", split=split, shapes=Shapes(**SHAPES)) for split in ("train", "val")}
        convert(splits, "coco", DATA["shapes"])


def recorded(key: str, redo: bool, job: Callable[[], dict[str, Any] | None]) -> None:
    """Run a job whose result is not there, or is wanted anew, and write what it found, if anything."""
    if key in known() and not redo:
        return
    before = os.getloadavg()[0]
    found = job()
    if found is None:
        return
    found |= {"load": [round(before, 1), round(os.getloadavg()[0], 1)], "where": whereabouts()}
    content = {**known(), key: {**known().get(key, {}), **found}}  # another process may have written meanwhile
    RESULT.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n", encoding="utf-8")
    print(key, {name: found[name] for name in found if name != "where"}, flush=True)


def known() -> dict[str, Any]:
    """All that was found so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}


def by_library(family: Family, arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """A run of the library's loop."""
    from kdet.train.build import build_student
    from kdet.train.data import open_data
    from kdet.train.state.run_folder import save_student

    recipe = recipe_of(family, seed, family.as_library)
    torch.manual_seed(seed)
    detector = build_student(recipe, open_data(recipe).train.index.classes, print)
    task = Task(
        data=DATA[family.data],
        size=family.size,
        batch=family.batch,
        epochs=family.epochs,
        seed=seed,
        numbers=family.arms[arm],
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    assert family.loop is not None
    state = family.loop(detector, task, folder)
    seconds = round(time.process_time() - begin)  # of the processor: other work beside it does not count
    save_student(detector, state, folder.with_suffix(".safetensors"))
    shutil.rmtree(folder, ignore_errors=True)
    about = {"seconds": seconds, "library": f"{family.library} {version(family.library)}"}
    return {"AP": score(family, folder), **about}


def by_kdet(family: Family, arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """A run of kdet."""
    from kdet.train import fit

    shutil.rmtree(folder, ignore_errors=True)
    begin = time.process_time()
    outcome = fit(recipe_of(family, seed, {}), folder)
    return {"AP": round(outcome.metrics["AP"], 4), "seconds": round(time.process_time() - begin)}


def anew(family: Family, arm: str, seed: int, folder: Path) -> dict[str, Any] | None:
    """AP of weights that a library's loop has left."""
    return {"AP": score(family, folder)} if folder.with_suffix(".safetensors").exists() else None


def score(family: Family, folder: Path) -> float:
    """What `kdet evaluate` says."""
    file, val = folder.with_suffix(".safetensors"), annotations(family.data, "val")
    command = [sys.executable, "-m", "kdet.cli", "evaluate", str(file), "--data", val, "--allow-code", "--json"]
    return round(
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])["AP"], 4
    )


def recipe_of(family: Family, seed: int, more: dict[str, Any]) -> Any:
    """kdet's recipe."""
    from kdet.train import Recipe

    files = {split: annotations(family.data, split) for split in ("train", "val")}
    fixed = {"precision": "fp32", "evaluate_every": 0, "seed": seed, "workers": 0}
    return Recipe.model_validate(
        {
            "data": {"format": "coco", **files, "image_size": family.size, "augment": family.augment},
            "student": {**family.student, **more},
            "train": {"epochs": family.epochs, "batch_size": family.batch, **family.train, **fixed},
        }
    )


def annotations(data: str, split: str) -> str:
    """A file in COCO's format."""
    return str(DATA[data] / f"annotations_{split}.json")


def table() -> str:
    """Rows for docs/baselines.md; what was not run says so."""
    lines = [
        "| student | library's loop | library | kdet alone | kdet − library | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    lines += [row for name, family in FAMILIES.items() for row in rows(name, family)]
    return "\n".join(lines)


def rows(name: str, family: Family) -> Iterator[str]:
    """Of one family, one for each arm of the library."""
    own = of_seeds(f"{name}/kdet")
    if not family.arms:
        yield f"| {name} | none at hand | | {shown(own)} | | |"
    for arm in family.arms:
        theirs = of_seeds(f"{name}/{arm}")
        difference, interval = compared(own, theirs)
        yield f"| {name} | {family.library}, {arm} | {shown(theirs)} | {shown(own)} | {difference} | {interval} |"


def of_seeds(key: str) -> list[float]:
    """AP of each seed that was run."""
    found = known()
    return [found[f"{key}/{seed}"]["AP"] for seed in range(SEEDS) if f"{key}/{seed}" in found]


def shown(aps: list[float]) -> str:
    """Mean and standard deviation."""
    if len(aps) < 2:
        return f"{aps[0]:.3f} (one seed)" if aps else "not yet measured"
    few = "" if len(aps) == SEEDS else f" ({len(aps)} seeds)"
    return f"{statistics.mean(aps):.3f} ± {statistics.stdev(aps):.3f}{few}"


def compared(own: list[float], theirs: list[float]) -> tuple[str, str]:
    """Difference of the means and Welch's interval; the loops share no random numbers, so the seeds are not paired."""
    from scipy import stats

    if len(own) < 2 or len(theirs) < 2:
        return "", ""
    low, high = stats.ttest_ind(own, theirs, equal_var=False).confidence_interval(0.95)
    return f"{statistics.mean(own) - statistics.mean(theirs):+.3f}", f"{low:+.3f} … {high:+.3f}"


if __name__ == "__main__":
    main()
