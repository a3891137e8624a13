"""What mixed precision may not touch: beyond 256, bfloat16 counts pixels in steps of two, beyond 512 of four."""

from collections.abc import Sequence

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Return what mixed precision left in half precision, for arithmetic that needs more."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def sizes_alone(maps: Sequence[Tensor]) -> list[Tensor]:
    """Stand-ins for maps, in float32 at least: their shape and device, but one number alone, so that nothing is copied.

    Whoever lays anchors or points reads shape, precision and device of maps, and would lay them in bfloat16.
    """
    return [at_least_float32(m.new_zeros(())).expand(m.shape) for m in maps]
