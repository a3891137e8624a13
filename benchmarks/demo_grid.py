"""Which learning rate and which weights does the demo use? Chosen here, on other seeds than it is judged on.

    python benchmarks/demo_grid.py lr --out benchmarks/results/demo-lr-cpu.json
    python benchmarks/demo_grid.py weights --out benchmarks/results/demo-weights-cpu.json

The learning rate is the best for the student *alone*. Each distilled arm has its best weight, so that plain L2 is no
straw man.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from measuring import whereabouts

from kdet.study import demo
from kdet.train import fit

LEARNING_RATES = (1e-3, 2e-3, 3e-3, 6e-3)
LR_SEEDS = (10, 11)
WEIGHTS = {"l2": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0), "structural": (4.0, 16.0, 64.0)}
WEIGHT_SEEDS = (10,)


def main() -> None:
    """Run a grid and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=("lr", "weights"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = learning_rates(Path(folder)) if arguments.grid == "lr" else weights(Path(folder))
    what = f"kdet demo, grid of {arguments.grid}: AP at the last epoch"
    content = {"what": what, "rows": rows, "environment": whereabouts()}
    arguments.out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def learning_rates(folder: Path) -> list[dict[str, Any]]:
    """The student alone."""
    return [
        row(
            {"lr": lr, "seeds": LR_SEEDS},
            [ap(demo.recipe_of("alone", seed, lr=lr), folder / f"{lr}-{seed}") for seed in LR_SEEDS],
        )
        for lr in LEARNING_RATES
    ]


def weights(folder: Path) -> list[dict[str, Any]]:
    """Each distilled arm under the teacher of the same seed."""
    for seed in WEIGHT_SEEDS:
        ap(demo.recipe_of("teacher", seed), folder / f"teacher-{seed}")
    rows: list[dict[str, Any]] = []
    for method, grid in WEIGHTS.items():
        for weight in grid:
            demo.DISTILL["grid"] = [{"method": method, "weight": weight}]
            runs = [
                ap(
                    demo.recipe_of("grid", seed, teacher=folder / f"teacher-{seed}"),
                    folder / f"{method}-{weight}-{seed}",
                )
                for seed in WEIGHT_SEEDS
            ]
            rows.append(row({"method": method, "weight": weight, "seeds": WEIGHT_SEEDS}, runs))
    return rows


def ap(recipe: Any, folder: Path) -> float:
    """AP of one run."""
    return float(fit(recipe, folder).metrics["AP"])


def row(about: dict[str, Any], aps: list[float]) -> dict[str, Any]:
    """One line of the result, shown as it comes."""
    result = {**about, "AP": aps, "mean": mean(aps)}
    print(json.dumps(result), flush=True)
    return result


if __name__ == "__main__":
    main()
