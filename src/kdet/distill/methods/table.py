"""METHODS: every published method by name, with where it comes from. Adding one is a line here."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kdet import losses
from kdet.distill.methods import features, predictions
from kdet.distill.methods.published import PUBLISHED
from kdet.distill.terms import Term, Weight
from kdet.types import Need


@dataclass(frozen=True)
class Paper:
    """Publication of a method."""

    title: str
    venue: str
    link: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in (self.title, self.venue, self.link) if part)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of `kdet list methods` and a section of docs/methods.md."""

    terms: Callable[..., list[Term]]
    loss: Callable[..., Tensor] | type[nn.Module]
    """Its docstring has the equation, the constants and the deviations."""
    paper: Paper
    official: str
    """The published weight in words."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Options under which it reads something else, as they are written in a recipe."""

    @property
    def weight(self) -> Weight:
        """The default."""
        return inspect.signature(self.terms).parameters["weight"].default

    @property
    def published(self) -> float | None:
        """What `weight: published` stands for; None = nothing was published, or it is not known to us."""
        return PUBLISHED.get(self.terms.__name__)

    def needs(self, options: Mapping[str, Any] | None = None) -> tuple[frozenset[Need], frozenset[Need]]:
        """What it asks of the student and of the teacher."""
        views = [term.view for term in self.terms(**(options or {}))]
        nothing: frozenset[Need] = frozenset()
        return nothing.union(*(v.student_needs for v in views)), nothing.union(*(v.teacher_needs for v in views))


_STRUCTURAL = Paper("Structural Knowledge Distillation for Object Detection", "NeurIPS 2022", "arXiv 2211.13133")
_RM_PFI = Paper(
    "Knowledge Distillation for Object Detection via Rank Mimicking and Prediction-guided Feature Imitation",
    "AAAI 2022",
    "arXiv 2112.04840",
)
_REGIONS = {"on: regions": {"on": "regions"}}

METHODS: dict[str, Method] = {
    "structural": Method(
        terms=features.structural,
        loss=losses.structural_loss,
        paper=_STRUCTURAL,
        official="2 and 4 (λ) were the best, within half a point of each other",
    ),
    "rank_mimicking": Method(
        terms=predictions.rank_mimicking,
        loss=losses.rank_mimicking_loss,
        paper=_RM_PFI,
        official="4 (α) for RetinaNet, by one independent implementation",
    ),
    "prediction_guided": Method(
        terms=predictions.prediction_guided,
        loss=losses.prediction_guided_loss,
        paper=_RM_PFI,
        official="1.5 (β), by two independent implementations",
    ),
    "l2": Method(
        terms=features.l2,
        loss=losses.lp_loss,
        paper=Paper("none: plain squared error on raw features, the baseline to beat", ""),
        official="none",
    ),
    "lp": Method(
        terms=features.lp,
        loss=losses.lp_loss,
        paper=Paper(f"{_STRUCTURAL.title}, its baselines", _STRUCTURAL.venue, _STRUCTURAL.link),
        official="not known to us",
    ),
    "hint": Method(
        terms=features.hint,
        loss=losses.hint_loss,
        paper=Paper("FitNets: Hints for Thin Deep Nets", "ICLR 2015", "arXiv 1412.6550"),
        official="1, in a stage of its own before the training",
        variants={f"where: {where}": {"where": where} for where in ("boxes", "positives", "negatives")},
    ),
    "attention_transfer": Method(
        terms=features.attention_transfer,
        loss=losses.attention_transfer_loss,
        paper=Paper(
            "Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via "
            "Attention Transfer",
            "ICLR 2017",
            "arXiv 1612.03928",
        ),
        official="1000 (β), for classification",
    ),
    "cwd": Method(
        terms=features.cwd,
        loss=losses.cwd_loss,
        paper=Paper("Channel-wise Knowledge Distillation for Dense Prediction", "ICCV 2021", "arXiv 2011.13256"),
        official="10 for RetinaNet's neck in mmrazor",
    ),
    "pkd": Method(
        terms=features.pkd,
        loss=losses.pkd_loss,
        paper=Paper(
            "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
            "NeurIPS 2022",
            "arXiv 2207.02039",
        ),
        official="6 for two-stage pairs, 10 for one-stage pairs, on the four finest levels",
    ),
    "cosine": Method(
        terms=features.cosine,
        loss=losses.cosine_loss,
        paper=Paper(
            "RT-DETRv4: Painlessly Furthering Real-Time Object Detection with Vision Foundation Models, its alignment "
            "with a foundation model",
            "2025",
            "arXiv 2510.25257",
        ),
        official="none: it follows the ratio of the gradients' norms, as `auto` does",
    ),
    "mgd": Method(
        terms=features.mgd,
        loss=losses.MGDLoss,
        paper=Paper("Masked Generative Distillation", "ECCV 2022", "arXiv 2205.01529"),
        official="2e-5 (α) with mask ratio 0.65 for one-stage, 5e-7 with 0.45 for two-stage detectors",
    ),
    "fgd": Method(
        terms=features.fgd,
        loss=losses.FGDLoss,
        paper=Paper("Focal and Global Knowledge Distillation for Detectors", "CVPR 2022", "arXiv 2111.11837"),
        official="1, over α 1e-3, β 5e-4, γ 5e-4, λ 5e-6 for RetinaNet; 5e-5, 2.5e-5, 5e-5, 5e-7 for Faster R-CNN",
    ),
    "clockdistill": Method(
        terms=features.clockdistill,
        loss=losses.clockdistill_loss,
        paper=Paper(
            "CLoCKDistill: Consistent Location-and-Context-aware Knowledge Distillation for DETRs, its memory "
            "distillation",
            "WACV 2026",
            "arXiv 2502.10683",
        ),
        official="not known to us",
    ),
    "score_weighted": Method(
        terms=features.score_weighted,
        loss=losses.score_weighted_loss,
        paper=Paper("none: the built-in distillation of a widely used YOLO package, from its documentation", ""),
        official="6",
    ),
    "soft_labels": Method(
        terms=predictions.soft_labels,
        loss=losses.soft_label_loss,
        paper=Paper(
            "Distilling the Knowledge in a Neural Network", "NIPS 2014 Deep Learning Workshop", "arXiv 1503.02531"
        ),
        official="by task",
        variants=_REGIONS,
    ),
    "dist": Method(
        terms=predictions.dist,
        loss=losses.dist_loss,
        paper=Paper("Knowledge Distillation from A Stronger Teacher", "NeurIPS 2022", "arXiv 2205.10536"),
        official="1, on all anchors of RetinaNet and all regions of Faster R-CNN",
        variants=_REGIONS,
    ),
    "ld": Method(
        terms=predictions.ld,
        loss=losses.ld_loss,
        paper=Paper("Localization Distillation for Dense Object Detection", "CVPR 2022", "arXiv 2102.12252"),
        official="0.25 for GFL, as mean over bins and sum over positives: by estimate ours at 100 to 200 positives",
    ),
    "crosskd": Method(
        terms=predictions.crosskd,
        loss=losses.crosskd_loss,
        paper=Paper("CrossKD: Cross-Head Knowledge Distillation for Object Detection", "CVPR 2024", "arXiv 2306.11369"),
        official="1 for RetinaNet; for FCOS 0.4 with `box_weight: 1.875`, `after: 2`",
    ),
    "bckd": Method(
        terms=predictions.bckd,
        loss=losses.bckd_loss,
        paper=Paper(
            "Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection",
            "ICCV 2023",
            "arXiv 2308.14286",
        ),
        official="1, over `class_weight: 1` and `box_weight: 4` for GFL",
    ),
    "detrdistill": Method(
        terms=predictions.detrdistill,
        loss=losses.detrdistill_loss,
        paper=Paper(
            "DETRDistill: A Universal Knowledge Distillation Framework for DETR-families, its logits distillation",
            "ICCV 2023",
            "arXiv 2211.10156",
        ),
        official="not known to us",
    ),
    "kd_detr": Method(
        terms=predictions.kd_detr,
        loss=losses.detrdistill_loss,
        paper=Paper(
            "KD-DETR: Knowledge Distillation for Detection Transformer with Consistent Distillation Points Sampling",
            "CVPR 2024",
            "arXiv 2211.08071",
        ),
        official="none under this divergence; 1, 5 and 2 for classes, L1 and GIoU in a public implementation of it",
    ),
}
