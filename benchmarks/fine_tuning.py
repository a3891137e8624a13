"""What does distillation do to a student that starts from pretrained weights? YOLOX-nano, blood cells, a minute a run.

    python benchmarks/fine_tuning.py learners causes --seeds 3     # these plans; each run once, goes on where it ended
    python benchmarks/fine_tuning.py --table causes                # a recorded result as a table

A plan is a list of arms that share their data, start and budget. Teachers are trained first, by the same recipe without
terms. AP is that of the last epoch's weights on the validation images; where a plan chooses a setting, on a fifth of
the training images that is held out instead. Weights come from `../shared/data/weights`; without them nothing is run.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from measuring import whereabouts

from kdet.train import Recipe, fit

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
DATA = SHARED / "bccd"
TEACHER_STEPS = 576
RESULTS = Path(__file__).parent / "results"
COCO = str(SHARED / "weights" / "yolox_nano_coco.safetensors")
STUDENT = {"detector": "libreyolo", "config": {"model": "yolox", "size": "n"}, "weights": COCO}
"""The teacher's, too."""
SGD = {"optimizer": "sgd", "weight_decay": 5e-4, "lr_schedule": "cosine", "ema": 0.9998}
ADAMW = {"optimizer": "adamw", "weight_decay": 0.05, "lr_schedule": "cosine", "ema": 0.9998}
TRAIN = {**ADAMW, "lr": 0.003, "batch_size": 4, "warmup_steps": 36, "precision": "fp32"}
"""The best of the plan `learners` for the student alone."""
AUGMENT = {"flip": 0.5, "vertical_flip": 0.5, "scale": [0.8, 1.25], "photometric": 0.5}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train a student; seeds aside, all that its AP depends on."""

    labels: float = 0.125
    """Share of the training images that the student has."""
    size: int = 192
    steps: int = 320
    hold_out: float | None = None
    teacher_size: int = 192
    terms: tuple[dict[str, Any], ...] = ()
    teacher_keys: dict[str, Any] = field(default_factory=dict[str, Any])
    train: dict[str, Any] = field(default_factory=dict[str, Any])

    def recipe(self, seed: int, teacher: Path | None) -> Recipe:
        """As kdet reads it."""
        data: dict[str, Any] = {
            **{"format": "coco", "image_size": self.size, "augment": AUGMENT, "labels": self.labels},
            **{split: str(DATA / f"annotations_{split}.json") for split in ("train", "val")},
            **({} if self.hold_out is None else {"hold_out": self.hold_out}),
        }
        ends = {"epochs": 100_000, "max_steps": self.steps, "evaluate_every": 0, "seed": seed}
        train = {**TRAIN, **self.train, **ends, "workers": 0, "log_every": 40}
        content: dict[str, Any] = {"data": data, "student": STUDENT, "train": train}
        if teacher is not None:
            larger = {} if self.teacher_size == self.size else {"image_size": self.teacher_size}
            content |= {"teacher": {"run": str(teacher), **larger, **self.teacher_keys}, "distill": list(self.terms)}
        return Recipe.model_validate(content)

    def teacher(self) -> "Arm":
        """Its teacher: the same detector with all labels."""
        return Arm(labels=1.0, size=self.teacher_size, steps=TEACHER_STEPS, hold_out=self.hold_out)


def structural(**keys: Any) -> tuple[dict[str, Any], ...]:
    """One term."""
    return ({"method": "structural", **keys},)


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
            "same size, share 1": replace(ALONE, terms=structural(share=1.0)),
            "same size, share 0.3": replace(ALONE, terms=structural(share=0.3)),
            "same size, decay from a half": replace(ALONE, terms=structural(schedule={"decay": 0.5})),
            "same size, decay from the start": replace(ALONE, terms=structural(schedule={"decay": 0.0})),
            "larger": replace(LARGE, terms=structural(**RANDOM), teacher_keys=STRIDE),
            "larger, fitted adapter": replace(LARGE, terms=structural(), teacher_keys=STRIDE),
            "larger, share 0.3": replace(LARGE, terms=structural(share=0.3, **RANDOM), teacher_keys=STRIDE),
            "larger, decay from the start": replace(
                LARGE, terms=structural(schedule={"decay": 0.0}, **RANDOM), teacher_keys=STRIDE
            ),
            "larger, by place": replace(LARGE, terms=structural(**RANDOM)),
            "larger, by place, fitted adapter": replace(LARGE, terms=structural()),
            "larger, by place, fitted adapter, share 1": replace(LARGE, terms=structural(share=1.0)),
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
        torch.set_num_threads(1)
        for seed in range(arguments.seeds):
            for name, arm in plans()[plan].items():
                if arguments.only is None or name in arguments.only:
                    run(plan, name, arm, seed, arguments.runs)


def run(plan: str, name: str, arm: Arm, seed: int, runs: Path) -> None:
    """One arm of one seed, after its teacher; nothing where it is recorded."""
    key = f"{name}/{seed}"
    if key in known(plan):
        return
    teacher = None
    if arm.terms:
        own = arm.teacher()
        named = f"{own.size}-{own.steps}" + (f"-holdout{own.hold_out:g}" if own.hold_out else "")
        teacher = runs / "teachers" / named
        if not (teacher / "metrics.json").exists():
            found = fit(own.recipe(0, None), teacher, resume=teacher.exists())
            record(plan, f"teacher {named}", {"AP": rounded(found.metrics)})
    folder = runs / plan / key.replace(" ", "-").replace("/", "-seed")
    begin = time.process_time()
    found = fit(arm.recipe(seed, teacher), folder, resume=folder.exists())
    seconds = round(time.process_time() - begin)  # of the processor: other work beside it does not count
    record(plan, key, {"AP": rounded(found.metrics), "seconds": seconds})


def rounded(metrics: Any) -> dict[str, float]:
    """AP over all objects, and by their size."""
    return {key: round(metrics[key], 4) for key in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L") if key in metrics}


def record(plan: str, key: str, found: dict[str, Any]) -> None:
    """Beside what is there already; another process may have written meanwhile."""
    found |= {"where": whereabouts(), "load": round(os.getloadavg()[0], 1)}
    path(plan).write_text(json.dumps({**known(plan), key: found}, indent=1) + "\n", encoding="utf-8")
    print(plan, key, found["AP"], flush=True)


def known(plan: str) -> dict[str, Any]:
    """All that was found so far."""
    return json.loads(path(plan).read_text(encoding="utf-8")) if path(plan).exists() else {}


def path(plan: str) -> Path:
    """Of a plan's results."""
    return RESULTS / f"fine-tuning-{plan}.json"


def table(plan: str) -> Iterator[str]:
    """One row an arm: AP of each seed, and its paired gain over the first arm."""
    found = known(plan)
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
