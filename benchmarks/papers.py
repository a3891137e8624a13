"""Do the two papers' claims hold at our scale? Blood cells, pretrained students, five paired seeds.

    python benchmarks/papers.py weights structural predictions   # shares, chosen on held-out training images
    python benchmarks/papers.py run structural predictions      # each run once; goes on where it ended
    python benchmarks/papers.py run fcos --seeds 5
    python benchmarks/papers.py table                           # the recorded result into docs/papers.md

A group is a few arms of one detector, and needs the shares of the same group first (window's are structural's). How the
students are trained stands in papers_arms.py, what is claimed of them in papers_claims.py. `imitation`, `adapter`,
`window` and `choices` are compared with arms of `structural` and `predictions`. AP is that of the last weights on the
validation images. Groups of different detectors may run beside each other. A run takes about a minute of a core, and
two to three of Faster R-CNN; the first of a detector trains the teacher before.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import fill, whereabouts
from papers_arms import ALONE, ARMS, DETECTORS, HELD_OUT, KEYS, SHARE_OF, SHARED, Arm, tuned, with_share
from papers_claims import CHOICES, CLAIMS, SEEDS, Finding, findings, overhead
from yolo_side_by_side import ROOT

from kdet.evaluate import error_types, read_predictions, smallest_shown
from kdet.train import Recipe, fit, open_data
from kdet.train.state.run_folder import PREDICTIONS

RESULT = Path(__file__).parent / "results" / "papers.json"
PAGE = ROOT / "docs" / "papers.md"
SHARES = (0.3, 1.0, 3.0)
TUNING_SEED = 1000
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")


def main() -> None:
    """Run what is not there yet, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["weights", "run", "table"])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(ARMS))
    parser.add_argument("--data", choices=["bccd", "aquarium"], default="bccd", help="shares are those of bccd")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--runs", type=Path, default=Path("runs/papers"))
    arguments = parser.parse_args()
    if arguments.what == "table":
        write_tables()
        return
    if not arguments.groups or not set(arguments.groups) <= set(ARMS):
        parser.error(f"name groups of {', '.join(ARMS)}")
    if arguments.what == "weights" and arguments.data != "bccd":
        parser.error("shares are chosen on bccd alone, for both")
    if not (SHARED / "weights").is_dir():
        parser.error(f"{SHARED / 'weights'} is not there; the pretrained weights are needed")
    torch.set_num_threads(1)
    plans = weights(arguments.groups) if arguments.what == "weights" else runs(arguments.groups, arguments.seeds)
    for name, arm, seed in plans:
        run(f"{arguments.data} {name}/{seed}", replace(arm, data=arguments.data), seed, arguments.runs)


def weights(groups: list[str]) -> Iterator[tuple[str, Arm, int]]:
    """Each arm at each share, on a fifth of the training images that is held out."""
    for group in groups:
        student = Arm(detector=detector_of(group), hold_out=HELD_OUT)
        yield f"{student.detector} held out, {ALONE}", student, TUNING_SEED
        for name, terms in tuned(group).items():
            for share in SHARES:
                arm = replace(student, terms=with_share(terms, share))
                yield f"{student.detector} held out, {name} at {share:g}", arm, TUNING_SEED


def runs(groups: list[str], seeds: int) -> Iterator[tuple[str, Arm, int]]:
    """Seed by seed, so that what is there is paired; each arm at its chosen share."""
    for seed in range(seeds):
        for group in groups:
            student = Arm(detector=detector_of(group))
            yield f"{student.detector} {ALONE}", student, seed
            for name, terms in ARMS[group].items():
                share = chosen(student.detector, SHARE_OF.get(name, name))
                if share is None:
                    raise SystemExit(f"the share of {name!r} is not chosen yet; run `papers.py weights {group}` first")
                yield f"{student.detector} {name}", replace(student, terms=with_share(terms, share)), seed


def detector_of(group: str) -> str:
    """Whose arms these are."""
    return DETECTORS.get(group, "retinanet")


def chosen(detector: str, name: str) -> float | None:
    """The share with the highest AP on held-out images; None where one of them was not tried."""
    found = known()
    keys = {share: f"bccd {detector} held out, {name} at {share:g}/{TUNING_SEED}" for share in SHARES}
    if any(key not in found for key in keys.values()):
        return None
    return max(SHARES, key=lambda share: found[keys[share]]["AP"])


def run(key: str, arm: Arm, seed: int, folder: Path) -> None:
    """One run, after its teacher's; nothing where it is recorded."""
    if key in known():
        return
    teacher = None
    if arm.terms:
        teacher = folder / "teachers" / arm.teacher_name.replace(" ", "-")
        if not (teacher / "metrics.json").exists():
            record(f"teacher {arm.teacher_name}", measured(arm.teacher_recipe(), teacher))
    record(key, measured(arm.recipe(seed, teacher), folder / key.replace(" ", "-").replace("/", "-seed")))


def measured(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """AP in parts, what each kind of error costs in AP50, and seconds of the processor."""
    begin = time.process_time()  # other work beside it does not count
    metrics = fit(recipe, folder, resume=folder.exists()).metrics
    seconds = round(time.process_time() - begin)
    truth = open_data(recipe, lambda line: None)[1].index
    errors = error_types(truth, read_predictions(folder / PREDICTIONS)[0])
    values = {name: metrics[name] for name in METRICS} | {name: error.cost for name, error in errors.items()}
    return {name: None if value is None else round(value, 4) for name, value in values.items()} | {"seconds": seconds}


def record(key: str, found: dict[str, Any]) -> None:
    """Beside what is there already; another process may have written meanwhile."""
    found |= {"where": whereabouts(), "load": round(os.getloadavg()[0], 1)}
    RESULT.write_text(json.dumps({**known(), key: found}, indent=1) + "\n", encoding="utf-8")
    print(key, found["AP"], f"{found['seconds']} s", flush=True)


def known() -> dict[str, Any]:
    """All that was found so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}


def of_arms(data: str) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """(detector, arm) → seed → what was found."""
    found = known()
    arms: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for group, own in ARMS.items():
        detector = detector_of(group)
        for name in (ALONE, *own):
            start = f"{data} {detector} {name}/"
            seeds = {int(key.removeprefix(start)): value for key, value in found.items() if key.startswith(start)}
            arms[detector, name] = seeds
    return arms


def write_tables() -> None:
    """Claims, open choices, and what every arm came to, into the page."""
    command = "python benchmarks/papers.py table"
    fill(PAGE, command, "\n".join(claims_table()))
    fill(PAGE, f"{command}: choices", "\n".join(choices_table()))
    fill(PAGE, f"{command}: arms", "\n".join(arms_table()))


def claims_table() -> Iterator[str]:
    """One row a claim; with aquarium's column where it was run."""
    first, second = findings(CLAIMS, of_arms("bccd")), findings(CLAIMS, of_arms("aquarium"))
    beside = any(finding.differences for finding in second)
    yield f"| | claim | paper | ours | blood cells{' | aquarium' * beside} | verdict |"
    yield "|---|---|---|---|---|---|" + "---|" * beside
    for claim, here, there in zip(CLAIMS, first, second, strict=True):
        if claim.number == "8a":
            yield _overhead_row(beside=beside)
        shown = f" | {cell(there)}" * beside
        ours = f"{KEYS[claim.detector]}: {claim.shown}"
        yield f"| {claim.number} | {claim.words} | {claim.paper} | {ours} | {cell(here)}{shown} | {here.verdict} |"
    yield ""
    least = smallest_shown(SEEDS, tests=len(CLAIMS))
    yield (
        f"Intervals are 95 % for each row by itself, Student's t over {SEEDS} paired seeds; verdicts are those of "
        f"blood cells after Holm's correction over all {len(CLAIMS)} rows, for which the first difference must exceed "
        f"{least:.1f} times its spread."
    )


def _overhead_row(*, beside: bool) -> str:
    shown, verdict = overhead()
    ours = "RetinaNet R50 → R18, 2 images: the structural loss's share of a step"
    return f"| 7 | the overhead is small | in words [P] | {ours} | {shown}{' | ' * beside} | {verdict} |"


def choices_table() -> Iterator[str]:
    """What changing an open choice does, each side at its own best share."""
    yield "| | open in the papers | AP | blood cells | |"
    yield "|---|---|---|---|---|"
    for claim, found in zip(CHOICES, findings(CHOICES, of_arms("bccd")), strict=True):
        yield f"| {claim.number} | {claim.words} | {claim.shown} | {cell(found)} | {found.verdict} |"


def arms_table() -> Iterator[str]:
    """Mean and spread of every arm, its share, and its teacher."""
    found = known()
    yield "| detector | arm | share | AP | AP50 | AP75 |"
    yield "|---|---|---|---|---|---|"
    for (detector, name), seeds in of_arms("bccd").items():
        share = None if name == ALONE else chosen(detector, SHARE_OF.get(name, name))
        values = " | ".join(spread([one[metric] for one in seeds.values()]) for metric in ("AP", "AP50", "AP75"))
        yield f"| {KEYS[detector]} | {name} | {'' if share is None else f'{share:g}'} | {values} |"
    for detector in KEYS:
        own = found.get(f"teacher {Arm(detector=detector).teacher_name}")
        if own is not None:
            values = " | ".join(f"{own[metric]:.3f}" for metric in ("AP", "AP50", "AP75"))
            yield f"| {KEYS[detector]} | its teacher | | {values} |"


def cell(found: Finding) -> str:
    """The difference with its interval."""
    return found.interval or "not yet measured"


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds."""
    if len(values) < 2:
        return f"{values[0]:.3f} (one seed)" if values else "not yet measured"
    few = "" if len(values) == SEEDS else f" ({len(values)} seeds)"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}{few}"


if __name__ == "__main__":
    main()
