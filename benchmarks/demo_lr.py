"""Which learning rate is best for the demo's student *alone*? The demo uses it for every student.

    python benchmarks/demo_lr.py --out benchmarks/results/demo-lr-cpu.json

Seeds differ from those the demo is judged on (0, 1, 2), so that nothing is chosen on what is reported.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean

from kdet.study.demo import recipe_of
from kdet.train import fit
from kdet.train.run_folder import environment

LEARNING_RATES = (1e-3, 2e-3, 3e-3, 6e-3)
SEEDS = (10, 11)


def main() -> None:
    """Run the grid and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for lr in LEARNING_RATES:
            aps = [fit(recipe_of("alone", seed, lr=lr), Path(folder) / f"{lr}-{seed}").metrics["AP"] for seed in SEEDS]
            rows.append({"lr": lr, "AP": aps, "mean": mean(aps)})
            print(rows[-1], flush=True)
    about = {key: value for key, value in environment(0).items() if key not in ("command", "seed")}
    content = {"what": "AP of the demo's student alone", "seeds": SEEDS, "rows": rows, "environment": about}
    out.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
