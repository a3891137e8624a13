"""Published methods as functions that return lists of Terms; add their lists up to combine them."""

from kdet.distill.methods.features import (
    attention_transfer,
    cosine,
    cwd,
    fgd,
    hint,
    l2,
    lp,
    mgd,
    pkd,
    score_weighted,
    structural,
)
from kdet.distill.methods.predictions import (
    bckd,
    crosskd,
    detrdistill,
    dist,
    ld,
    prediction_guided,
    rank_mimicking,
    soft_labels,
)
from kdet.distill.methods.table import METHODS, Method, Paper

__all__ = [
    "METHODS",
    "Method",
    "Paper",
    "attention_transfer",
    "bckd",
    "cosine",
    "crosskd",
    "cwd",
    "detrdistill",
    "dist",
    "fgd",
    "hint",
    "l2",
    "ld",
    "lp",
    "mgd",
    "pkd",
    "prediction_guided",
    "rank_mimicking",
    "score_weighted",
    "soft_labels",
    "structural",
]
