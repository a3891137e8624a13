"""Does distillation help a student that starts from pretrained weights and has all the time it wants?

    python benchmarks/figure.py weights                   # shares, chosen on held-out training images
    python benchmarks/figure.py run --seeds 5             # the curves; each run once, goes on where it ended
    python benchmarks/figure.py draw                      # docs/images/labels.svg and the tables of docs/results.md

Student and teacher are YOLOX-nano with COCO weights. The student sees images of 160 pixels and a share of the labels.
Its teacher sees 320 pixels and **the same labels and no more**; a second one had all labels. The labelled images of a
share are always the same ones, so that the seeds of all arms are pairs. Runs are many and short (one to four minutes of
a core); what was not run yet is missing in the picture and said under the table.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import fill
from pretrained_arms import ROOT, SHARED, Arm, known, run

from kdet.evaluate.intervals import paired_t_interval

LABELS = (0.125, 0.5, 1.0, 0.25, 0.0625)
"""In the order in which they are run."""
METHODS: dict[str, tuple[str, ...]] = {
    "L2": ("l2",),
    "structural": ("structural",),
    "PKD": ("pkd",),
    "RM + PFI": ("rank_mimicking", "prediction_guided"),
    "structural + RM + PFI": ("structural", "rank_mimicking", "prediction_guided"),
}
SHARES = (0.3, 1.0, 3.0)
UNLABELLED = {"images": "rest", "per_batch": 4, "score": 0.5}
TUNING_SEED = 1000
STUDENT = Arm(size=160, teacher_size=320)
STEPS = 320
PAGE = ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "images" / "labels.svg"


def main() -> None:
    """Run what is not there yet, or draw what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["weights", "run", "draw"])
    parser.add_argument("--data", nargs="+", choices=["bccd", "aquarium"], default=["bccd"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=float, nargs="+", default=LABELS)
    parser.add_argument("--only", nargs="+", help="these arms")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine-tuning"))
    arguments = parser.parse_args()
    if arguments.what == "draw":
        draw()
        return
    if not (SHARED / "weights").is_dir():
        parser.error(f"{SHARED / 'weights'} is not there; the pretrained weights are needed")
    if arguments.what == "weights":
        for name, arm in weights().items():
            run("figure-weights", name, arm, TUNING_SEED, arguments.runs)
        return
    for seed in range(arguments.seeds):
        for share in arguments.labels:
            for data in arguments.data:
                for name, arm in arms(data, share).items():
                    if arguments.only is None or name in arguments.only:
                        run("figure", f"{data} {share:g} {name}", arm, seed, arguments.runs)


def weights() -> dict[str, Arm]:
    """Each method at each share, an eighth of the labels, on a fifth of the training images that is held out."""
    tuned = replace(STUDENT, hold_out=0.2, labels=0.15, teacher_labels=0.15)
    return {
        "alone": tuned,
        **{
            f"{name}, share {share:g}": replace(tuned, terms=terms(name, share)) for name in METHODS for share in SHARES
        },
    }


def terms(method: str, share: float) -> tuple[dict[str, Any], ...]:
    """`weight: auto` divides the share among the terms."""
    return tuple({"method": name, "ratio": share} for name in METHODS[method])


def chosen() -> dict[str, float]:
    """The share of each method with the highest AP on held-out images; the default where none was run."""
    found = known("figure-weights")

    def ap(method: str, share: float) -> float:
        return found.get(f"{method}, share {share:g}/{TUNING_SEED}", {"AP": {"AP": -1.0}})["AP"]["AP"]

    return {method: max(SHARES, key=lambda share: ap(method, share)) for method in METHODS}


def arms(data: str, labels: float) -> dict[str, Arm]:
    """Of one share of the labels; the teacher has the same ones unless the name says otherwise."""
    alone = replace(STUDENT, data=data, labels=labels, teacher_labels=labels)
    shares = chosen()
    distilled = {name: replace(alone, terms=terms(name, shares[name])) for name in METHODS}
    found = {
        "alone": alone,
        "alone, twice as long": replace(alone, steps=2 * STEPS),
        "alone, 4 times as long": replace(alone, steps=4 * STEPS),
        **distilled,
    }
    if labels < 1:
        structural, all_labels = distilled["structural"], {"teacher_labels": 1.0}
        boxes = replace(alone, terms=(), unlabelled=UNLABELLED)
        both = replace(structural, unlabelled=UNLABELLED)
        found |= {
            "teacher's boxes": boxes,
            "structural + teacher's boxes": both,
            "structural, teacher of all labels": replace(structural, **all_labels),
            "structural + boxes, teacher of all labels": replace(both, **all_labels),
        }
    return found


SHOWN = {
    "alone": ("#444444", "-"),
    "alone, 4 times as long": ("#444444", "--"),
    "L2": ("#1f77b4", "-"),
    "structural": ("#d62728", "-"),
    "RM + PFI": ("#2ca02c", "-"),
    "teacher's boxes": ("#9467bd", "-"),
    "structural + teacher's boxes": ("#ff7f0e", "-"),
}
"""The lines of the picture, with colour and dash."""
FAINT = ("structural, teacher of all labels", "structural + boxes, teacher of all labels")


def draw() -> None:
    """The picture and the table, of what was run so far."""
    from matplotlib.figure import Figure

    folders = [data for data in ("bccd", "aquarium") if any(key.startswith(f"{data} ") for key in known("figure"))]
    figure = Figure(figsize=(5.2 * len(folders), 4.0), layout="constrained")
    panels = figure.subplots(1, len(folders), squeeze=False)[0]
    for axes, data in zip(panels, folders, strict=True):
        for name, (colour, dash) in SHOWN.items():
            points = curve(data, name)
            axes.plot([p for p, _ in points], [mean for _, mean in points], dash, color=colour, marker="o", label=name)
        for name in FAINT:
            points = curve(data, name)
            axes.plot(
                [p for p, _ in points], [mean for _, mean in points], ":", color="#aaaaaa", marker=".", label=name
            )
        points = teachers(data)
        axes.plot([p for p, _ in points], [ap for _, ap in points], ":", color="#444444", label="the teacher itself")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(LABELS), ["1/16", "1/8", "1/4", "1/2", "1"])
        axes.set_xlabel("share of the labels")
        axes.set_ylabel("AP")
        axes.set_title({"bccd": "blood cells", "aquarium": "aquarium"}[data])
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize=7, frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    fill(PAGE, "python benchmarks/figure.py draw", "\n".join(table(folders)))


def aps(data: str, share: float, name: str) -> dict[int, float]:
    """Seed → AP."""
    found, start = known("figure"), f"{data} {share:g} {name}/"
    return {int(key.removeprefix(start)): value["AP"]["AP"] for key, value in found.items() if key.startswith(start)}


def curve(data: str, name: str) -> list[tuple[float, float]]:
    """Share of the labels → mean AP."""
    found = {share: aps(data, share, name) for share in sorted(LABELS)}
    return [(share, statistics.mean(each.values())) for share, each in found.items() if each]


def teachers(data: str) -> list[tuple[float, float]]:
    """Share of the labels → the teacher's AP."""
    found = known("figure")
    names = {share: f"teacher {replace(STUDENT, data=data, teacher_labels=share).teacher_name}" for share in LABELS}
    return [(share, found[name]["AP"]["AP"]) for share, name in sorted(names.items()) if name in found]


def table(folders: list[str]) -> Iterator[str]:
    """Mean AP, and the paired gain over the student alone with its 95 % interval (Student's t over the seeds)."""
    for data in folders:
        shares = [share for share in sorted(LABELS, reverse=True) if aps(data, share, "alone")]
        yield f"| {data} | " + " | ".join(f"{share:g} of the labels" for share in shares) + " |"
        yield "|---|" + "---|" * len(shares)
        for name in dict.fromkeys(name for share in shares for name in arms(data, share)):
            if any(aps(data, share, name) for share in shares):
                yield f"| {name} | " + " | ".join(cell(data, share, name) for share in shares) + " |"
        own = dict(teachers(data))
        yield "| the teacher itself | " + " | ".join(f"{own[s]:.3f}" if s in own else "" for s in shares) + " |"
        yield ""


def cell(data: str, share: float, name: str) -> str:
    """One cell of the table."""
    own, alone = aps(data, share, name), aps(data, share, "alone")
    if not own:
        return ""
    mean = f"{statistics.mean(own.values()):.3f}"
    gains = [ap - alone[seed] for seed, ap in own.items() if seed in alone]
    if name == "alone" or not gains:
        return f"{mean} ({len(own)} seeds)"
    if len(gains) == 1:
        return f"{mean}, {gains[0]:+.3f} (one seed)"
    interval = paired_t_interval(gains)
    assert interval is not None
    low, high = interval
    few = "" if len(gains) == 5 else f", {len(gains)} seeds"
    return f"{mean}, {statistics.mean(gains):+.3f} ({low:+.3f} … {high:+.3f}{few})"
