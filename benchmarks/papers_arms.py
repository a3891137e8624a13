"""How papers.py trains: pretrained students of several detectors on real images, each under a teacher of its kind.

Student and teacher are MobileNetV2 ×0.35 and ×1.0 from ImageNet weights, with necks of equal width, set up as
baselines_families.py has the student alone. Only Faster R-CNN's teacher is unlike it: a Cascade R-CNN, as in the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines_families import FAMILIES, WEIGHTS
from yolo_side_by_side import ROOT

from kdet.train import Recipe

SHARED = ROOT.parent / "shared" / "data"
KEYS = {
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
    "atss": "ATSS",
    "gfl": "GFL",
    "faster_rcnn": "Faster R-CNN",
}
"""Detectors → their names in baselines_families.py, which are also those of the tables."""
LARGE = {"width": 1.0, "backbone_weights": str(WEIGHTS / "mobilenet_v2_imagenet1k_v1.safetensors")}
TEACHERS: dict[str, tuple[str, int]] = {"faster_rcnn": ("cascade_rcnn", 2)}
"""Detector and times the student's epochs, where they are not the student's detector and three."""
HELD_OUT = 0.2
"""Of the training images, for the choice of shares; its teacher does not see them either."""

Terms = tuple[dict[str, Any], ...]


def _ssim(**options: Any) -> Terms:
    return ({"method": "structural", "adapter": "never", **options},)


def _lp(p: int) -> Terms:
    return ({"method": "lp", "p": p, "adapter": "never"},)


def _hint(where: str) -> Terms:
    return ({"method": "hint", "where": where, "adapter": "never"},)


def _pfi(prediction: str = "logit") -> Terms:
    return ({"method": "prediction_guided", "reduction": "l2", "prediction": prediction, "adapter": "never"},)


def _rm(score: str = "probability") -> Terms:
    return ({"method": "rank_mimicking", "score": score},)


SOFT: dict[str, Terms] = {"soft labels": ({"method": "soft_labels"},)}
RANKS: dict[str, Terms] = {"RM": _rm()}
GUIDED: dict[str, Terms] = {"PFI": _pfi()}
WHOLE: dict[str, Terms] = {"whole map": _hint("whole")}
ARMS: dict[str, dict[str, Terms]] = {
    "structural": {
        "SSIM": _ssim(),
        "l1": _lp(1),
        "l2": _lp(2),
        "structure alone": _ssim(alpha=0, beta=0),
    },
    "predictions": {**RANKS, **SOFT, **GUIDED, "RM + PFI": (*_rm(), *_pfi())},
    "imitation": {
        **WHOLE,
        "positives": _hint("positives"),
        "negatives": _hint("negatives"),
        "objects' boxes": _hint("boxes"),
    },
    "adapter": {"SSIM, φ": _ssim(adapter="identity-start")},
    "window": {"SSIM, window 3": _ssim(window=3, sigma=0.41), "SSIM, window 7": _ssim(window=7, sigma=0.95)},
    "choices": {
        "SSIM, ν of a sample": _ssim(normalize="sample"),
        "SSIM, no ν": _ssim(normalize=None),
        "PFI, probabilities": _pfi("probability"),
        "RM, logits": _rm("logit"),
    },
    "unlike": {"SSIM": _ssim(), "SSIM, φ": _ssim(adapter="identity-start")},
    "fcos": {**RANKS, **SOFT, **GUIDED, **WHOLE},
    "atss": {**RANKS, **SOFT, **GUIDED, **WHOLE},
    "gfl": {**RANKS, **SOFT, **GUIDED, **WHOLE},
}
"""Group → arms; in every group the student alone comes first."""
DETECTORS = {"unlike": "faster_rcnn", "fcos": "fcos", "atss": "atss", "gfl": "gfl"}
"""Of a group; RetinaNet where it names none."""
SHARE_OF = {"SSIM, window 3": "SSIM", "SSIM, window 7": "SSIM"}
"""Arms that take the share of another, as the papers' ablations do."""
ALONE = "alone"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train a student; seeds aside, all that its AP depends on."""

    detector: str = "retinanet"
    data: str = "bccd"
    terms: Terms = ()
    """Empty: the student alone."""
    hold_out: float | None = None

    def recipe(self, seed: int, teacher: Path | None) -> Recipe:
        """Of the student; its teacher's run is there already."""
        content = self._common(self.detector, seed)
        if teacher is not None:
            content |= {"teacher": {"run": str(teacher)}, "distill": list(self.terms)}
        return Recipe.model_validate(content)

    def teacher_recipe(self) -> Recipe:
        """Of the teacher, which saw the same images as its student, and no others."""
        detector, times = TEACHERS.get(self.detector, (self.detector, 3))
        content = self._common(self.detector, 0)
        content["student"] |= {"detector": detector, **LARGE}
        content["train"]["epochs"] *= times
        return Recipe.model_validate(content)

    @property
    def teacher_name(self) -> str:
        """Of the teacher's run, and of its record."""
        parts = [self.data, self.detector, *([] if self.hold_out is None else [f"without {self.hold_out:g}"])]
        return " ".join(parts)

    def _common(self, detector: str, seed: int) -> dict[str, Any]:
        family = FAMILIES[KEYS[detector]]
        splits = {split: str(SHARED / self.data / f"annotations_{split}.json") for split in ("train", "val")}
        data: dict[str, Any] = {"format": "coco", **splits, "image_size": family.size, "augment": family.augment}
        if self.hold_out is not None:
            data["hold_out"] = self.hold_out
        fixed = {"precision": "fp32", "evaluate_every": 0, "workers": 0, "log_every": 40}
        sizes = {"epochs": family.epochs, "batch_size": family.batch}
        return {
            "data": data,
            "student": dict(family.student),
            "train": {**family.train, **sizes, **fixed, "seed": seed},
        }


def with_share(terms: Terms, share: float) -> Terms:
    """`weight: auto` divides the share among the terms."""
    return tuple({**term, "ratio": share} for term in terms)


def tuned(group: str) -> Mapping[str, Terms]:
    """The arms of a group that have a share of their own."""
    return {name: terms for name, terms in ARMS[group].items() if name not in SHARE_OF}
