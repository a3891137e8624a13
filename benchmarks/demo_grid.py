"""Which learning rate does the demo use? The best for the student alone, on other seeds than it is judged on.

python benchmarks/demo_grid.py --out benchmarks/results/demo-lr-cpu.json
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from measuring import whereabouts

from kdet.train import fit
from kdet.workflows import demo

LEARNING_RATES = (1e-3, 2e-3, 3e-3, 6e-3)
SEEDS = (10, 11)


def main() -> None:
    """Run the grid and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = learning_rates(Path(folder))
    what = "AP of the demo's student alone, at the last epoch"
    content = {"what": what, "rows": rows, "environment": whereabouts()}
    arguments.out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def learning_rates(folder: Path) -> list[dict[str, Any]]:
    """The student alone."""
    return [
        row(
            {"lr": lr, "seeds": SEEDS},
            [ap(demo.recipe_of("alone", seed, lr=lr), folder / f"{lr}-{seed}") for seed in SEEDS],
        )
        for lr in LEARNING_RATES
    ]


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
