"""Methods that compare neck features; each returns Terms, with the paper's constants as defaults."""

from functools import partial
from typing import Literal

from kdet.distill.methods.published import MethodWeight, term_of
from kdet.distill.terms import AdapterMode, Learned, Term
from kdet.distill.views.base import Features
from kdet.distill.views.features import (
    FeaturesAtPositives,
    FeaturesByRegion,
    FeaturesByScore,
    FeaturesInBoxes,
    MemoryByRegion,
    UnadaptedFeatures,
)
from kdet.losses import (
    FGDLoss,
    MGDLoss,
    attention_transfer_loss,
    clockdistill_loss,
    cosine_loss,
    cwd_loss,
    hint_loss,
    lp_loss,
    pkd_loss,
    score_weighted_loss,
    structural_loss,
)

Normalize = Literal["channel", "sample"] | None


def structural(
    weight: MethodWeight = "auto",
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
    normalize: Normalize = "channel",
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """SSIM between neck features; λ = 2 and 4 were the paper's best."""
    options = {"alpha": alpha, "beta": beta, "gamma": gamma, "window": window, "sigma": sigma}
    loss = partial(structural_loss, **options, normalize=normalize)
    return [term_of("structural", loss, Features(), weight, adapter=adapter)]


def lp(
    weight: MethodWeight = "auto",
    *,
    p: Literal[1, 2] = 2,
    normalize: Normalize = "channel",
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """The structural paper's ℓp baselines: same φ, ν and reduction, |S−T|^p instead of SSIM."""
    loss = partial(lp_loss, p=p, normalize=normalize)
    return [term_of("lp", loss, Features(), weight, adapter=adapter)]


def l2(weight: MethodWeight = "auto", *, adapter: AdapterMode = "auto") -> list[Term]:
    """Plain squared error on the raw features, the baseline that every method has to beat."""
    loss = partial(lp_loss, p=2, normalize=None)
    return [term_of("l2", loss, Features(), weight, adapter=adapter)]


def hint(
    weight: MethodWeight = "auto",
    *,
    where: Literal["whole", "boxes", "positives", "negatives"] = "whole",
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """FitNets' hints: half the squared error, on the whole map, in the objects' boxes, or where anchors are positive.

    `positives` are the cells that hold a positive anchor of the student, `negatives` all others.
    """
    views = {"whole": Features(), "boxes": FeaturesInBoxes()}
    view = views.get(where) or FeaturesAtPositives(others=where == "negatives")
    return [term_of("hint", hint_loss, view, weight, adapter=adapter)]


def attention_transfer(weight: MethodWeight = "auto", *, power: float = 2.0) -> list[Term]:
    """Squared error between the maps of where each model has large activations; no adapter."""
    loss = partial(attention_transfer_loss, power=power)
    return [term_of("attention_transfer", loss, UnadaptedFeatures(), weight)]


def cwd(weight: MethodWeight = "auto", *, temperature: float = 1.0, adapter: AdapterMode = "auto") -> list[Term]:
    """KL between the two softmax distributions of each channel over its cells."""
    loss = partial(cwd_loss, temperature=temperature)
    return [term_of("cwd", loss, Features(), weight, adapter=adapter)]


def pkd(
    weight: MethodWeight = "auto",
    *,
    statistics: Literal["batch", "image"] = "batch",
    finest: int | None = 4,
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """Squared error of standardised features, that is one minus their Pearson correlation; on the four finest levels.

    `finest: null` takes all levels that are paired, and a term's `strides` those that they name.
    """
    loss = partial(pkd_loss, statistics=statistics)
    return [term_of("pkd", loss, Features(), weight, finest=finest, adapter=adapter)]


def cosine(weight: MethodWeight = "auto", *, adapter: AdapterMode = "auto") -> list[Term]:
    """One minus the cosine of each cell's features, RT-DETRv4's way to learn from a foundation model.

    A term's `strides: [32]` takes the coarsest of RT-DETR's levels alone, as the paper does.
    """
    return [term_of("cosine", cosine_loss, Features(), weight, adapter=adapter)]


def mgd(weight: MethodWeight = "auto", *, mask_ratio: float = 0.65, adapter: AdapterMode = "auto") -> list[Term]:
    """A small trained network makes the teacher's features from the student's with cells left out at random."""
    loss = Learned(partial(MGDLoss, mask_ratio=mask_ratio))
    return [term_of("mgd", loss, Features(), weight, adapter=adapter)]


def fgd(
    weight: MethodWeight = "auto",
    *,
    alpha: float = 1e-3,
    beta: float = 5e-4,
    gamma: float = 5e-4,
    lambda_: float = 5e-6,
    temperature: float = 0.5,
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """Objects and background apart, weighted by the teacher's attention, and the relations between cells."""
    options = {"alpha": alpha, "beta": beta, "gamma": gamma, "lambda_": lambda_, "temperature": temperature}
    loss = Learned(partial(FGDLoss, **options))
    return [term_of("fgd", loss, FeaturesByRegion(), weight, adapter=adapter)]


def clockdistill(
    weight: MethodWeight = "auto",
    *,
    foreground_weight: float = 1.0,
    background_weight: float = 0.5,
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """Squared error of what two transformers' encoders say, weighed by where the labels have objects."""
    options = {"foreground_weight": foreground_weight, "background_weight": background_weight}
    loss = partial(clockdistill_loss, **options)
    return [term_of("clockdistill", loss, MemoryByRegion(), weight, adapter=adapter)]


def score_weighted(weight: MethodWeight = "auto", *, adapter: AdapterMode = "auto") -> list[Term]:
    """Squared error weighted by the teacher's highest class score in each cell."""
    return [term_of("score_weighted", score_weighted_loss, FeaturesByScore(), weight, adapter=adapter)]
