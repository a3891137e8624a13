"""One published loss a file: a function of plain tensors, (student, teacher) first, or a module where it learns."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from kdet.losses.attention_transfer import attention_transfer_loss
from kdet.losses.bckd import bckd_loss
from kdet.losses.clockdistill import clockdistill_loss
from kdet.losses.cosine import cosine_loss
from kdet.losses.crosskd import crosskd_loss
from kdet.losses.cwd import cwd_loss
from kdet.losses.detrdistill import detrdistill_loss
from kdet.losses.dist import dist_loss
from kdet.losses.fgd import FGDLoss
from kdet.losses.hint import hint_loss
from kdet.losses.ld import ld_loss
from kdet.losses.lp import lp_loss
from kdet.losses.mgd import MGDLoss
from kdet.losses.pkd import pkd_loss
from kdet.losses.prediction_guided import prediction_guided_loss
from kdet.losses.rank_mimicking import rank_mimicking_loss
from kdet.losses.score_weighted import score_weighted_loss
from kdet.losses.soft_labels import soft_label_loss
from kdet.losses.structural import structural_loss

LOSSES: Mapping[str, Callable[..., Tensor | nn.Module]] = {
    "attention_transfer": attention_transfer_loss,
    "bckd": bckd_loss,
    "clockdistill": clockdistill_loss,
    "cosine": cosine_loss,
    "crosskd": crosskd_loss,
    "cwd": cwd_loss,
    "detrdistill": detrdistill_loss,
    "dist": dist_loss,
    "fgd": FGDLoss,
    "hint": hint_loss,
    "ld": ld_loss,
    "lp": lp_loss,
    "mgd": MGDLoss,
    "pkd": pkd_loss,
    "prediction_guided": prediction_guided_loss,
    "rank_mimicking": rank_mimicking_loss,
    "score_weighted": score_weighted_loss,
    "soft_labels": soft_label_loss,
    "structural": structural_loss,
}

__all__ = [
    "LOSSES",
    "FGDLoss",
    "MGDLoss",
    "attention_transfer_loss",
    "bckd_loss",
    "clockdistill_loss",
    "cosine_loss",
    "crosskd_loss",
    "cwd_loss",
    "detrdistill_loss",
    "dist_loss",
    "hint_loss",
    "ld_loss",
    "lp_loss",
    "pkd_loss",
    "prediction_guided_loss",
    "rank_mimicking_loss",
    "score_weighted_loss",
    "soft_label_loss",
    "structural_loss",
]
