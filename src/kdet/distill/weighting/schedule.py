"""The weight of a term over the run, as a factor of its full weight."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Course of a term's weight in fractions of the run, 0 its start and 1 its end."""

    warmup: float = 0.0
    """Fraction of the run until which the factor rises linearly from 0 to 1."""
    decay: float = 1.0
    """Fraction of the run from which the factor falls as half a cosine to 0 at `stop`; 1 = never."""
    stop: float = 1.0
    """Fraction of the run from which the term is off; 1 = never."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= self.stop <= 1:
            raise ValueError(f"expected 0 ≤ warmup ≤ stop ≤ 1, got warmup {self.warmup}, stop {self.stop}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"expected decay within 0…1, got {self.decay}")

    def factor(self, progress: float) -> float:
        """The factor at this fraction of the run."""
        if progress >= self.stop and self.stop < 1:
            return 0.0
        rising = min(1.0, progress / self.warmup) if self.warmup > 0 else 1.0
        if progress <= self.decay or self.decay >= self.stop:
            return rising
        return rising * 0.5 * (1 + math.cos(math.pi * (progress - self.decay) / (self.stop - self.decay)))
