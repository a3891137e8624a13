"""Which defaults, and what does each method give on generated shapes? Every run is that of `kdet demo`'s student.

    python benchmarks/method_grid.py defaults --out benchmarks/results/defaults-cpu.json
    python benchmarks/method_grid.py methods --out benchmarks/results/methods-cpu.json

`defaults` settles what the papers leave open: the axes of ν, probabilities or logits, the reduction; `ratios` how hard
`weight: auto` pulls at a student that starts from random weights. `methods` gives every method its default weight and
its neighbours. A cell of the grid is one method at one weight on one seed; the seeds are not those that the demo is
judged on. Runs are kept under --runs, and those that are there are not repeated.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from measuring import whereabouts

from kdet.train import fit
from kdet.workflows import demo

SEEDS = (10, 11)


def arm(method: str, *weights: float | str, **options: Any) -> list[dict[str, Any]]:
    """One method with these options, at each weight."""
    return [{"method": method, "weight": weight, **options} for weight in weights]


GRIDS: dict[str, list[dict[str, Any]]] = {
    "defaults": [
        *arm("structural", 4.0, 16.0),
        *arm("structural", 4.0, 20.0, 80.0, normalize="sample"),
        *arm("rank_mimicking", 0.4, 4.0, 40.0),
        *arm("rank_mimicking", 0.04, 0.4, 4.0, score="logit"),
        *arm("rank_mimicking", 4.0, 40.0, rank_by="both"),
        *arm("prediction_guided", 1.5e-4, 0.015, 1.5, 15.0),
        *arm("prediction_guided", 1.5e-4, 0.015, 1.5, 15.0, reduction="mean"),
        *arm("prediction_guided", 1.5, 15.0, prediction="probability"),
        *arm("prediction_guided", 1.5, 15.0, prediction="probability", reduction="mean"),
    ],
    "ratios": [
        *(cell for ratio in (1.0, 3.0) for cell in arm("structural", "auto", ratio=ratio)),
        *(cell for ratio in (1.0, 3.0) for cell in arm("l2", "auto", ratio=ratio)),
    ],
    "methods": [
        *arm("l2", 1e-5),
        *arm("structural", 16.0),
        *arm("lp", 4.0, 40.0),
        *arm("hint", 2e-5),
        *arm("hint", 1e-3, 1e-5, where="boxes"),
        *arm("hint", 1e-3, 1e-5, where="positives"),
        *arm("attention_transfer", 1000.0, 100.0),
        *arm("cwd", 10.0, 1.0),
        *arm("pkd", 6.0, 1.0),
        *arm("mgd", 2e-5, 2e-7),
        *arm("fgd", 1.0, 0.01),
        *arm("score_weighted", 6.0, 1e-4),
        *arm("rank_mimicking", 4.0),
        *arm("prediction_guided", 1.5),
        *arm("soft_labels", 1.0),
        *arm("dist", 1.0),
        *arm("crosskd", 1.0, 0.1),
    ],
}


def main() -> None:
    """Run a grid, or what is missing of it, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=GRIDS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/grid"), help="where the runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # networks this small gain little from a second thread
    seeds: list[int] = arguments.seeds
    for seed in seeds:
        ap(arguments.runs, "teacher", seed)
    rows = [row(arguments.runs, None, seeds), *(row(arguments.runs, cell, seeds) for cell in GRIDS[arguments.grid])]
    what = f"kdet demo's student, grid of {arguments.grid}: AP at the last epoch"
    content = {"what": what, "seeds": seeds, "rows": rows, "environment": whereabouts()}
    arguments.out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def row(runs: Path, cell: dict[str, Any] | None, seeds: list[int]) -> dict[str, Any]:
    """One line of the result, shown as it comes; without a cell, the student alone."""
    aps = [ap(runs, "alone" if cell is None else "cell", seed, cell) for seed in seeds]
    result = {**(cell or {"method": "none"}), "AP": [round(value, 4) for value in aps], "mean": round(mean(aps), 4)}
    print(json.dumps(result), flush=True)
    return result


def ap(runs: Path, kind: str, seed: int, cell: dict[str, Any] | None = None) -> float:
    """AP of one run, trained if its folder is not there yet."""
    name = "_".join(str(value) for value in cell.values()) if cell else kind
    folder = runs / f"{name}-{seed}"
    if not (folder / "metrics.json").exists():
        demo.DISTILL["cell"] = [cell] if cell else []
        teacher = None if kind == "teacher" else runs / f"teacher-{seed}"
        fit(demo.recipe_of(kind, seed, teacher=teacher), folder)
    return float(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["AP"])


if __name__ == "__main__":
    main()
