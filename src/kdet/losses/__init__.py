"""One published loss a file; each a function of plain tensors, (student, teacher) first."""

from collections.abc import Callable, Mapping

from torch import Tensor

from kdet.losses.lp import lp_loss
from kdet.losses.prediction_guided import prediction_guided_loss
from kdet.losses.rank_mimicking import rank_mimicking_loss
from kdet.losses.soft_labels import soft_label_loss
from kdet.losses.structural import structural_loss

LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "lp": lp_loss,
    "prediction_guided": prediction_guided_loss,
    "rank_mimicking": rank_mimicking_loss,
    "soft_labels": soft_label_loss,
    "structural": structural_loss,
}

__all__ = [
    "LOSSES",
    "lp_loss",
    "prediction_guided_loss",
    "rank_mimicking_loss",
    "soft_label_loss",
    "structural_loss",
]
