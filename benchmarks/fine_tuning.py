"""What does distillation do to a student that starts from pretrained weights? YOLOX-nano, blood cells, a minute a run.

    python benchmarks/fine_tuning.py learners causes --seeds 3     # these plans; each run once, goes on where it ended
    python benchmarks/fine_tuning.py --table causes                # a recorded result as a table

A plan is a list of arms that share their data, start and budget. Teachers are trained first, by the same recipe without
terms.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretrained_arms import ADAMW, SHARED, Arm, known, run

SGD = {**ADAMW, "optimizer": "sgd", "weight_decay": 5e-4}


def structural(**keys: Any) -> tuple[dict[str, Any], ...]:
    """One term, at the ratio that was the default when these plans were begun."""
    return ({"method": "structural", "ratio": 3.0, **keys},)


LEARNERS = {
    **{f"sgd {lr:g}": {**SGD, "lr": lr} for lr in (0.003, 0.01, 0.03)},
    **{f"adamw {lr:g}": {**ADAMW, "lr": lr} for lr in (0.0003, 0.001, 0.003, 0.01)},
}
ALONE = Arm()
LARGE = replace(ALONE, teacher_size=320)
STRIDE = {"pair_levels": "stride"}
"""Else such a pair meets by place, by ADR 0008."""
RANDOM = {"adapter": "always"}
"""Its start; `auto` fits it by least squares."""


def plans() -> dict[str, dict[str, Arm]]:
    """All of them, by name; the first arm of each is what the others are compared with."""
    tuned = replace(ALONE, hold_out=0.2, labels=0.15)
    return {
        "learners": {
            **{name: replace(tuned, train=keys) for name, keys in LEARNERS.items()},
            **{
                f"adamw 0.003, {times} times as long": replace(tuned, train=LEARNERS["adamw 0.003"], steps=320 * times)
                for times in (2, 4)
            },
        },
        "causes": {
            "alone": ALONE,
            "same size": replace(ALONE, terms=structural()),
            "same size, share 1": replace(ALONE, terms=structural(ratio=1.0)),
            "same size, share 0.3": replace(ALONE, terms=structural(ratio=0.3)),
            "same size, decay from a half": replace(ALONE, terms=structural(schedule={"decay": 0.5})),
            "same size, decay from the start": replace(ALONE, terms=structural(schedule={"decay": 0.0})),
            "larger": replace(LARGE, terms=structural(**RANDOM), teacher_keys=STRIDE),
            "larger, fitted adapter": replace(LARGE, terms=structural(), teacher_keys=STRIDE),
            "larger, share 0.3": replace(LARGE, terms=structural(ratio=0.3, **RANDOM), teacher_keys=STRIDE),
            "larger, decay from the start": replace(
                LARGE, terms=structural(schedule={"decay": 0.0}, **RANDOM), teacher_keys=STRIDE
            ),
            "larger, by place": replace(LARGE, terms=structural()),
            "larger, by place, share 1": replace(LARGE, terms=structural(ratio=1.0)),
        },
    }


def main() -> None:
    """Run what is not there yet, or print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", nargs="*", choices=plans())
    parser.add_argument("--only", nargs="*", help="these arms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    for plan in arguments.plans:
        if arguments.table:
            print("\n".join(table(plan)))
            continue
        if not (SHARED / "weights").is_dir():
            parser.error(f"{SHARED / 'weights'} is not there; the pretrained weights are needed")
        for seed in range(arguments.seeds):
            for name, arm in plans()[plan].items():
                if arguments.only is None or name in arguments.only:
                    run(f"fine-tuning-{plan}", name, arm, seed, arguments.runs)


def table(plan: str) -> Iterator[str]:
    """One row an arm: AP of each seed, and its paired gain over the first arm."""
    found = known(f"fine-tuning-{plan}")
    names = list(plans()[plan])
    yield "| arm | AP of each seed | mean | gain of each seed | AP small |"
    yield "|---|---|---|---|---|"
    for name in names:
        seeds = [key.rsplit("/", 1)[1] for key in found if key.rsplit("/", 1)[0] == name]
        if not seeds:
            yield f"| {name} | not run | | | |"
            continue
        aps = [found[f"{name}/{seed}"]["AP"] for seed in seeds]
        gains = [
            f"{ap['AP'] - found[f'{names[0]}/{seed}']['AP']['AP']:+.3f}"
            for ap, seed in zip(aps, seeds, strict=True)
            if name != names[0] and f"{names[0]}/{seed}" in found
        ]
        each = ", ".join(f"{ap['AP']:.3f}" for ap in aps)
        small = ", ".join(f"{ap['AP_S']:.3f}" for ap in aps if "AP_S" in ap)
        yield f"| {name} | {each} | {statistics.mean(ap['AP'] for ap in aps):.3f} | {', '.join(gains)} | {small} |"


if __name__ == "__main__":
    main()
