"""The one place where a map becomes a number.

Legend: N images, then any axes of one level; in an N×C×H×W map C channels and H×W cells.
"""

from collections.abc import Sequence
from typing import Literal, assert_never

import torch
from torch import Tensor

from kdet.ops.pairs import Levels

Reduction = Literal["mean", "l2"]


def reduce_map(values: Tensor, how: Reduction = "mean") -> Tensor:
    """Reduce a level's N×… map to one number, each image weighing the same.

    "mean" is the plain mean. "l2" is the Euclidean norm of each image's map divided by its number of cells; its
    gradient at a map of zeros is zero.
    """
    match how:
        case "mean":
            return values.mean()
        case "l2":
            values_NL = values.flatten(1)
            return torch.linalg.vector_norm(values_NL, dim=1).mean() / values_NL.shape[1]
        case _:
            assert_never(how)


def cell_weights(weights: Levels, maps: Sequence[Tensor], *, name: str) -> list[Tensor]:
    """Return a weight for each cell of each level's N×C×H×W map: N×1×H×W, in the map's dtype, without a gradient.

    Raises:
        ValueError: the weights, called `name`, have other levels, images or cells than the maps.
    """
    levels = [weights] if isinstance(weights, Tensor) else list(weights)
    if len(levels) != len(maps):
        raise ValueError(f"expected {name} for {len(maps)} levels, got {len(levels)}")
    for level, (weight_N1HW, values_NCHW) in enumerate(zip(levels, maps, strict=True)):
        expected = (values_NCHW.shape[0], 1, *values_NCHW.shape[2:])
        if weight_N1HW.shape != expected:
            raise ValueError(
                f"expected {name} of level {level} of shape {expected} (N, 1, H, W), got {tuple(weight_N1HW.shape)}"
            )
    return [weight.detach().to(values.dtype) for weight, values in zip(levels, maps, strict=True)]
