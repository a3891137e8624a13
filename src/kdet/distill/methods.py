"""METHODS: a published method is a function that returns Terms, with the paper's constants as defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from kdet.distill.candidates import RankedByBox, RankedByClass, RegionSoftLabels, Score, SoftLabels
from kdet.distill.terms import AdapterMode, Term
from kdet.distill.views import Features, GuidedFeatures
from kdet.losses import (
    lp_loss,
    prediction_guided_loss,
    rank_mimicking_loss,
    soft_label_loss,
    structural_loss,
)

Normalize = Literal["channel", "sample"] | None


def structural(
    weight: float = 4.0,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
    normalize: Normalize = "channel",
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """SSIM between neck features (NeurIPS 2022); λ = 2 and 4 were the paper's best."""
    options = {"alpha": alpha, "beta": beta, "gamma": gamma, "window": window, "sigma": sigma}
    loss = partial(structural_loss, **options, normalize=normalize)
    return [Term(name="structural", loss=loss, view=Features(), weight=weight, adapter=adapter)]


def lp(
    weight: float = 4.0, *, p: Literal[1, 2] = 2, normalize: Normalize = "channel", adapter: AdapterMode = "auto"
) -> list[Term]:
    """The structural paper's ℓp baselines: same φ, ν and reduction, |S−T|^p instead of SSIM."""
    loss = partial(lp_loss, p=p, normalize=normalize)
    return [Term(name="lp", loss=loss, view=Features(), weight=weight, adapter=adapter)]


def l2(weight: float = 1.0, *, adapter: AdapterMode = "auto") -> list[Term]:
    """Plain squared error on the raw features, the baseline that every method has to beat."""
    loss = partial(lp_loss, p=2, normalize=None)
    return [Term(name="l2", loss=loss, view=Features(), weight=weight, adapter=adapter)]


def rank_mimicking(
    weight: float = 4.0,
    *,
    score: Score = "probability",
    temperature: float = 1.0,
    rank_by: Literal["class", "localization", "both"] = "class",
) -> list[Term]:
    """KL between the two rankings of each object's candidates (AAAI 2022); α = 4 for probabilities."""
    loss = partial(rank_mimicking_loss, temperature=temperature)
    by_class = Term(name="rank_mimicking", loss=loss, view=RankedByClass(score=score), weight=weight)
    by_box = Term(name="rank_mimicking_box", loss=loss, view=RankedByBox(), weight=weight)
    if rank_by == "both":  # the mean of the two
        return [_weighted(by_class, weight / 2), _weighted(by_box, weight / 2)]
    return [by_class if rank_by == "class" else by_box]


def prediction_guided(
    weight: float = 1.5,
    *,
    reduction: Literal["l2", "mean"] = "l2",
    prediction: Literal["logit", "probability"] = "logit",
    detach_weight: bool = False,
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """Feature differences weighted by prediction differences (AAAI 2022); β = 1.5."""
    options = {"reduction": reduction, "prediction": prediction, "detach_weight": detach_weight}
    loss = partial(prediction_guided_loss, **options)
    return [Term(name="prediction_guided", loss=loss, view=GuidedFeatures(), weight=weight, adapter=adapter)]


def soft_labels(
    weight: float = 1.0,
    *,
    temperature: float = 1.0,
    candidates: Literal["positive", "all"] = "positive",
    on: Literal["anchors", "regions"] = "anchors",
) -> list[Term]:
    """Temperature soft labels, the classic baseline; `on: regions` for Faster R-CNN."""
    view = SoftLabels(candidates=candidates) if on == "anchors" else RegionSoftLabels(candidates=candidates)
    loss = partial(soft_label_loss, temperature=temperature)
    return [Term(name="soft_labels", loss=loss, view=view, weight=weight)]


@dataclass(frozen=True)
class Method:
    """A row of `kdet list methods`."""

    terms: Callable[..., list[Term]]
    paper: str
    needs: str
    detectors: str


_STRUCTURAL = "Structural Knowledge Distillation for Object Detection, NeurIPS 2022, arXiv 2211.13133"
_RM_PFI = "Rank Mimicking and Prediction-guided Feature Imitation, AAAI 2022, arXiv 2112.04840"
_ANY = "any"
_DENSE = "retinanet, fcos, ssdlite"

METHODS: dict[str, Method] = {
    "structural": Method(structural, _STRUCTURAL, "features", _ANY),
    "lp": Method(lp, f"{_STRUCTURAL} (its baselines)", "features", _ANY),
    "l2": Method(l2, "plain squared error on raw features", "features", _ANY),
    "rank_mimicking": Method(rank_mimicking, _RM_PFI, "class logits, assignment", _DENSE),
    "prediction_guided": Method(prediction_guided, _RM_PFI, "features, class logits", _DENSE),
    "soft_labels": Method(
        soft_labels, "Distilling the Knowledge in a Neural Network, arXiv 1503.02531", "class logits", _ANY
    ),
}


def _weighted(term: Term, weight: float) -> Term:
    return Term(name=term.name, loss=term.loss, view=term.view, weight=weight)
