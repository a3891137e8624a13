"""Everything that a run holds while it goes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from kdet.data import EpochSampler
from kdet.distill import Distiller
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import Recipe
from kdet.train.scoring import Scorer
from kdet.train.state.checkpoint import Counters
from kdet.train.state.interruption import Interruption
from kdet.train.state.run_log import RunLog
from kdet.types import Batch, Detector

Watch = Callable[[], str | None]
"""Asked after each look at AP whether there is anything to warn of, until it has said something."""


@dataclass(kw_only=True)
class Run:
    """Everything that a run holds while it goes."""

    recipe: Recipe
    folder: Path
    engine: Engine
    log: RunLog
    student: Detector
    distiller: Distiller
    module: nn.Module
    """The distiller as the engine wrapped it."""
    optimizer: Optimizer
    average: AveragedModel | None
    sampler: EpochSampler
    loader: DataLoader[Batch]
    scorer: Scorer
    total_steps: int
    interruption: Interruption
    watch: Watch | None = None
    counters: Counters = field(default_factory=Counters)
    unlogged: int = 0
    """Images since the last record."""
    since: float = 0.0
    skipped: int = 0
    """Steps in a row whose numbers broke and that were left out."""
    saved: float = 0.0
    """Time when the state was saved last."""

    @property
    def finished(self) -> bool:
        """All epochs, or as many steps as were wanted, or no patience is left."""
        return self.counters.step >= self.total_steps or self.counters.epoch >= self.recipe.train.epochs or self.gave_up

    @property
    def gave_up(self) -> bool:
        """Whether as many looks at AP in a row brought no new best as `patience` allows."""
        return self.recipe.train.patience is not None and self.counters.misses >= self.recipe.train.patience
