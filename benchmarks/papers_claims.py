"""What the two papers claim, as differences between arms of papers.py, and the rule of the verdict."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdet.evaluate.intervals import holm, paired_t_interval, paired_t_p

SEEDS = 5
SAME = 0.01
"""AP: arms that differ by less count as the same."""
LEVEL = 0.05
OVERHEAD = 0.1
"""Share of a step up to which a loss counts as small."""
RESULTS = Path(__file__).parent / "results"

Part = tuple[float, str, str]
"""Factor, arm, metric."""
Runs = Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]
"""(detector, arm) → seed → metric → value."""


def _ap(*parts: tuple[float, str], metric: str = "AP") -> tuple[Part, ...]:
    return tuple((factor, arm, metric) for factor, arm in parts)


def _more(better: str, worse: str) -> tuple[Part, ...]:
    return _ap((1, better), (-1, worse))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of the table: a sum over arms that a paper says is above 0, or is 0."""

    number: str
    words: str
    """In ours."""
    paper: str
    """Its number, with our confidence in it."""
    shown: str
    """The sum, for people."""
    parts: tuple[Part, ...]
    detector: str = "retinanet"
    same: bool = False
    """The paper says that it makes no difference."""


def _on_others(number: str, paper: str, shown: str, parts: tuple[Part, ...]) -> list[Claim]:
    """The same on three more detectors."""
    return [
        Claim(
            number=f"{number}{letter}",
            words=f"the same, {detector.upper()}",
            paper=paper,
            detector=detector,
            shown=shown,
            parts=parts,
        )
        for letter, detector in (("b", "fcos"), ("c", "atss"), ("d", "gfl"))
    ]


_HELPS = _more("SSIM", "alone")
CLAIMS: list[Claim] = [
    Claim(number="1", words="SSIM helps", paper="+3.7 [S]", shown="SSIM − alone", parts=_HELPS),
    Claim(
        number="2a",
        words="SSIM beats ℓ1 under the same ν and φ",
        paper="+1.4 [S]",
        shown="SSIM − ℓ1",
        parts=_more("SSIM", "l1"),
    ),
    Claim(
        number="2b",
        words="ℓ1 beats ℓ2",
        paper="in words",
        shown="ℓ1 − ℓ2",
        parts=_more("l1", "l2"),
    ),
    Claim(
        number="3",
        words="structure (γ) alone brings most of SSIM's gain",
        paper="3.2 of 3.7 [s]",
        shown="gain of structure alone − half of SSIM's",
        parts=_ap((1, "structure alone"), (-0.5, "SSIM"), (-0.5, "alone")),
    ),
    Claim(
        number="4a",
        words="the gain is mostly localisation: more at IoU 0.75 than at 0.5",
        paper="in words [S]",
        shown="gain in AP75 − gain in AP50",
        parts=(*_ap((1, "SSIM"), (-1, "alone"), metric="AP75"), *_ap((-1, "SSIM"), (1, "alone"), metric="AP50")),
    ),
    Claim(
        number="4b",
        words="… and fewer errors of place than of class (TIDE)",
        paper="in words [S]",
        shown="cost of places saved − cost of classes saved",
        parts=(
            *_ap((1, "alone"), (-1, "SSIM"), metric="localisation"),
            *_ap((-1, "alone"), (1, "SSIM"), metric="classification"),
        ),
    ),
    Claim(
        number="4c",
        words="… and large objects more than medium ones",
        paper="in words [S]",
        shown="gain in AP_L − gain in AP_M",
        parts=(*_ap((1, "SSIM"), (-1, "alone"), metric="AP_L"), *_ap((-1, "SSIM"), (1, "alone"), metric="AP_M")),
    ),
    Claim(
        number="5a",
        words="φ helps under a teacher of another kind",
        paper="+1.1 [s]",
        detector="faster_rcnn",
        shown="SSIM with φ − without; Faster R-CNN from Cascade R-CNN",
        parts=_more("SSIM, φ", "SSIM"),
    ),
    Claim(
        number="5b",
        words="φ does nothing under one of its own kind",
        paper="0 [s]",
        shown="SSIM with φ − without",
        parts=_more("SSIM, φ", "SSIM"),
        same=True,
    ),
    *(
        Claim(
            number=f"6{letter}",
            words="the window does not matter",
            paper="0, in words [s]",
            shown=f"window {size} − window 11",
            parts=_more(f"SSIM, window {size}", "SSIM"),
            same=True,
        )
        for letter, size in (("a", 3), ("b", 7))
    ),
    Claim(
        number="8a",
        words="rank mimicking beats soft labels",
        paper="+0.6 to +1.4 against +0.2 to +0.5 [S]",
        shown="RM − soft labels",
        parts=_more("RM", "soft labels"),
    ),
    *_on_others("8", "", "RM − soft labels", _more("RM", "soft labels")),
    Claim(
        number="9a",
        words="prediction-guided imitation beats imitating the whole map",
        paper="in words [S]",
        shown="PFI − whole map",
        parts=_more("PFI", "whole map"),
    ),
    *_on_others("9", "in words [S]", "PFI − whole map", _more("PFI", "whole map")),
    *(
        Claim(
            number=f"9{letter}",
            words=f"… and {words}",
            paper="in words [S]",
            shown=f"PFI − {arm}",
            parts=_more("PFI", arm),
        )
        for letter, arm, words in (
            ("e", "positives", "positives"),
            ("f", "negatives", "negatives"),
            ("g", "objects' boxes", "the objects' boxes"),
        )
    ),
    Claim(
        number="10a",
        words="rank mimicking and prediction-guided imitation add up",
        paper="both +2.9, PFI +2.3 [S]",
        shown="both − PFI",
        parts=_more("RM + PFI", "PFI"),
    ),
    Claim(
        number="10b",
        words="…",
        paper="both +2.9, RM +1.4 [S]",
        shown="both − RM",
        parts=_more("RM + PFI", "RM"),
    ),
    Claim(
        number="11",
        words="both together help",
        paper="+3.5 [P]",
        shown="both − alone",
        parts=_more("RM + PFI", "alone"),
    ),
]
CHOICES: list[Claim] = [
    Claim(number=number, words=words, paper="", shown=f"{other} − {ours}", parts=_more(other, ours))
    for number, words, other, ours in (
        ("A", "ν by channel, or by sample", "SSIM, ν of a sample", "SSIM"),
        ("B", "ν by channel, or none", "SSIM, no ν", "SSIM"),
        ("C", "PFI of logits, or of probabilities", "PFI, probabilities", "PFI"),
        ("D", "RM of probabilities, or of logits", "RM, logits", "RM"),
    )
]
"""What the papers leave open: not claims, only what changing it does."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a claim."""

    differences: tuple[float, ...]
    """One a seed."""
    verdict: str
    """Empty before all seeds are there."""

    @property
    def interval(self) -> str:
        """Mean and 95 % over the seeds, for people."""
        if not self.differences:
            return ""
        ends = paired_t_interval(self.differences)
        shown = "one seed" if ends is None else f"{ends[0]:+.3f} … {ends[1]:+.3f}"
        few = "" if ends is None or len(self.differences) == SEEDS else f", {len(self.differences)} seeds"
        return f"{statistics.mean(self.differences):+.3f} ({shown}{few})"


def findings(claims: Sequence[Claim], runs: Runs) -> list[Finding]:
    """All claims together; Holm's correction counts those that are not measured yet, too.

    Args:
        claims: in any order.
        runs: all that were made.
    """
    found = [differences(claim, runs) for claim in claims]
    ps = [_p(claim, own) if len(own) >= SEEDS else 1.0 for claim, own in zip(claims, found, strict=True)]
    return [
        Finding(differences=own, verdict=_verdict(claim, own, p))
        for claim, own, p in zip(claims, found, holm(ps), strict=True)
    ]


def differences(claim: Claim, runs: Runs) -> tuple[float, ...]:
    """The claim's sum for each seed that all of its arms have."""
    arms = [runs.get((claim.detector, arm), {}) for _, arm, _ in claim.parts]
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    values = [[arm[seed][metric] for (_, _, metric), arm in zip(claim.parts, arms, strict=True)] for seed in seeds]
    return tuple(
        math.fsum(factor * value for (factor, _, _), value in zip(claim.parts, row, strict=True))
        for row in values
        if None not in row
    )


def _p(claim: Claim, own: Sequence[float]) -> float:
    """Two-sided that the mean is 0; for a claim of no difference, that it lies SAME or more from 0 (two one-sided)."""
    if not claim.same:
        return _two_sided(own)
    return max(_above([SAME + value for value in own]), _above([SAME - value for value in own]))


def _above(values: Sequence[float]) -> float:
    """One-sided p that the mean is not above 0."""
    p = _two_sided(values)
    return p / 2 if statistics.mean(values) > 0 else 1 - p / 2


def _two_sided(values: Sequence[float]) -> float:
    p = paired_t_p(values)
    assert p is not None  # there are SEEDS of them
    return p


def _verdict(claim: Claim, own: Sequence[float], p: float) -> str:
    if len(own) < SEEDS:
        return ""
    interval = paired_t_interval(own)
    assert interval is not None
    if claim in CHOICES:
        return "differs" if p < LEVEL else "no difference shown"
    if claim.same:
        against = interval[0] > SAME or interval[1] < -SAME
        return "holds here" if p < LEVEL else "contradicted here" if against else "not shown here"
    if p >= LEVEL:
        return "not shown here"
    return "holds here" if statistics.mean(own) > 0 else "contradicted here"


def overhead() -> tuple[str, str]:
    """Claim 7 from what benchmarks/step.py recorded: the structural loss's share of a step, and the verdict."""
    shares = {
        f"{row['size']}, {device}": row["shares_in_percent"]["structural alone"] / 100
        for device, file in (("two cores", "step-cpu"), ("an H200", "step-gpu"))
        for row in json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["rows"]
    }
    small = [where for where, share in shares.items() if share <= OVERHEAD]
    verdict = "holds here" if len(small) == len(shares) else "contradicted here"
    if 0 < len(small) < len(shares):
        verdict = "holds on the processor, contradicted on the GPU" if all("cores" in w for w in small) else "divided"
    return "; ".join(f"{100 * share:.0f} % ({where})" for where, share in shares.items()), verdict
