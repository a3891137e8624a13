"""Methods that compare predictions; each returns Terms, with the paper's constants as defaults."""

from dataclasses import replace
from functools import partial
from typing import Literal

from kdet.distill.methods.published import MethodWeight, settled, term_of
from kdet.distill.terms import AdapterMode, Term
from kdet.distill.views.base import GuidedFeatures
from kdet.distill.views.candidates import RankedByBox, RankedByClass, RegionSoftLabels, Score, SoftLabels
from kdet.distill.views.cross_head import CrossHead
from kdet.distill.views.edge_distributions import EdgeDistributions
from kdet.distill.views.every_anchor import EveryAnchor
from kdet.distill.views.queries import ConsistentQueries, MatchedQueries
from kdet.losses import (
    bckd_loss,
    crosskd_loss,
    detrdistill_loss,
    dist_loss,
    ld_loss,
    prediction_guided_loss,
    rank_mimicking_loss,
    soft_label_loss,
)


def rank_mimicking(
    weight: MethodWeight = "auto",
    *,
    score: Score = "probability",
    temperature: float = 1.0,
    rank_by: Literal["class", "localization", "both"] = "class",
) -> list[Term]:
    """KL between the two rankings of each object's candidates; α = 4 for probabilities."""
    loss, weight = partial(rank_mimicking_loss, temperature=temperature), settled("rank_mimicking", weight)
    by_class = Term(name="rank_mimicking", loss=loss, view=RankedByClass(score=score), weight=weight)
    by_box = Term(name="rank_mimicking_box", loss=loss, view=RankedByBox(), weight=weight)
    if rank_by == "both":  # the mean of the two
        half = weight if weight == "auto" else weight / 2
        return [replace(by_class, weight=half), replace(by_box, weight=half)]
    return [by_class if rank_by == "class" else by_box]


def prediction_guided(
    weight: MethodWeight = "auto",
    *,
    reduction: Literal["l2", "mean"] = "mean",
    prediction: Literal["logit", "probability"] = "logit",
    detach_weight: bool = False,
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """Feature differences weighted by prediction differences; β = 1.5."""
    options = {"reduction": reduction, "prediction": prediction, "detach_weight": detach_weight}
    loss = partial(prediction_guided_loss, **options)
    return [term_of("prediction_guided", loss, GuidedFeatures(), weight, adapter=adapter)]


def soft_labels(
    weight: MethodWeight = "auto",
    *,
    temperature: float = 1.0,
    candidates: Literal["positive", "all"] = "positive",
    on: Literal["anchors", "regions"] = "anchors",
) -> list[Term]:
    """Temperature soft labels, the classic baseline; `on: regions` for Faster R-CNN."""
    loss = partial(soft_label_loss, temperature=temperature)
    return [term_of("soft_labels", loss, _class_logits(candidates, on), weight)]


def dist(
    weight: MethodWeight = "auto",
    *,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    candidates: Literal["positive", "all"] = "all",
    on: Literal["anchors", "regions"] = "anchors",
) -> list[Term]:
    """Correlation of the two models' class scores, over classes and over candidates; `on: regions` for Faster R-CNN."""
    loss = partial(dist_loss, temperature=temperature, beta=beta, gamma=gamma)
    return [term_of("dist", loss, _class_logits(candidates, on), weight)]


def crosskd(
    weight: MethodWeight = "auto",
    *,
    power: float = 1.0,
    box_weight: float = 1.0,
    after: int = 3,
    align: bool = True,
    adapter: AdapterMode = "auto",
) -> list[Term]:
    """The student's head features, finished by the teacher's head, predict what the teacher predicts."""
    loss = partial(crosskd_loss, power=power, box_weight=box_weight)
    return [term_of("crosskd", loss, CrossHead(after=after, align=align), weight, adapter=adapter)]


def ld(weight: MethodWeight = "auto", *, temperature: float = 10.0) -> list[Term]:
    """KL between the two models' distributions of each box edge, at the student's positives."""
    loss = partial(ld_loss, temperature=temperature)
    return [term_of("ld", loss, EdgeDistributions(), weight)]


def bckd(
    weight: MethodWeight = "auto",
    *,
    class_weight: float = 1.0,
    box_weight: float = 4.0,
    overlap: Literal["giou", "iou"] = "giou",
) -> list[Term]:
    """Class scores of all anchors as binary questions, and the overlap of the boxes where these scores differ."""
    loss = partial(bckd_loss, class_weight=class_weight, box_weight=box_weight, overlap=overlap)
    return [term_of("bckd", loss, EveryAnchor(), weight)]


def detrdistill(
    weight: MethodWeight = "auto",
    *,
    class_weight: float = 2.0,
    box_weight: float = 5.0,
    giou_weight: float = 2.0,
    threshold: float = 0.1,
) -> list[Term]:
    """Each query with which the teacher sees something is matched to one of the student's, which follows it."""
    options = {"class_weight": class_weight, "box_weight": box_weight, "giou_weight": giou_weight}
    view = MatchedQueries(threshold=threshold, class_cost=class_weight, box_cost=box_weight, giou_cost=giou_weight)
    return [term_of("detrdistill", partial(detrdistill_loss, **options), view, weight)]


def kd_detr(
    weight: MethodWeight = "auto",
    *,
    class_weight: float = 1.0,
    box_weight: float = 5.0,
    giou_weight: float = 2.0,
) -> list[Term]:
    """The teacher's queries are put to the student's decoder too, whose answers follow the teacher's, by its scores.

    The loss is that of `detrdistill`, with no matching: a query is its own partner. From the paper are the consistent
    queries, the weight of each by the teacher's highest class score, and one loss of classes, L1 and GIoU; the three
    numbers are those of a public implementation that calls itself official, which takes L1 as a mean over four sides.
    Left out are its queries drawn at random and its losses of the decoder's earlier layers. Classes are binary
    questions here, and a softmax at temperature 10 there. A query is what the family begins with: for RT-DETR and its
    kind a cell with the teacher's box, where each model starts from what its own encoder says; else the teacher's
    embeddings, so that both decoders must be equally wide.
    """
    options = {"class_weight": class_weight, "box_weight": box_weight, "giou_weight": giou_weight}
    return [term_of("kd_detr", partial(detrdistill_loss, **options), ConsistentQueries(), weight)]


def _class_logits(
    candidates: Literal["positive", "all"], on: Literal["anchors", "regions"]
) -> SoftLabels | RegionSoftLabels:
    return SoftLabels(candidates=candidates) if on == "anchors" else RegionSoftLabels(candidates=candidates)
