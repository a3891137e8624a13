"""The one place where a map becomes a number.

Legend: N images, then any axes of one level.
"""

from typing import Literal, assert_never

import torch
from torch import Tensor

Reduction = Literal["mean", "l2"]


def reduce_map(values: Tensor, how: Reduction = "mean") -> Tensor:
    """One number for a level's N×… map, each image weighing the same.

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
