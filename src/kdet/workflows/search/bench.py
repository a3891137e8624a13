"""Short runs of candidates, each made once: what `kdet search` compares."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdet.train import Recipe
from kdet.train.recipe.models import TermRecipe
from kdet.train.state.run_folder import METRICS
from kdet.workflows.compare.rounds import cost_of, require_same_recipe, train_one


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate."""

    number: int
    methods: str
    """Joined by +."""
    ratio: float
    """How hard the terms pull at the student's neck, together."""
    strides: tuple[int, ...] | None
    """Levels of the terms that read features; None = all."""

    def terms(self, recipe: Recipe, reading_features: frozenset[str]) -> list[TermRecipe]:
        """Its `distill:` list; a term that the recipe has of a method keeps its other options."""
        found: list[TermRecipe] = []
        for method in self.methods.split("+"):
            own = next((term for term in recipe.distill if term.method == method), TermRecipe(method=method))
            strides = list(self.strides) if self.strides and method in reading_features else None
            found.append(own.model_copy(update={"weight": "auto", "ratio": self.ratio, "strides": strides}))
        return found

    def __str__(self) -> str:
        levels = "each method's levels" if self.strides is None else f"strides {list(self.strides)}"
        return f"{self.methods}, ratio {self.ratio:g}, {levels}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of a candidate, or of the student alone."""

    trial: Trial | None
    rung: int
    steps: int
    ap: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """One line of the evidence."""
        about: dict[str, Any] = {"methods": "none"}
        if self.trial is not None:
            about = asdict(self.trial) | {"strides": list(self.trial.strides) if self.trial.strides else None}
        return about | {"rung": self.rung, "steps": self.steps, "AP": self.ap, "seconds": self.seconds}


class Bench:
    """Makes runs of a given length as long as the time lasts."""

    def __init__(
        self, recipe: Recipe, out: Path, *, steps: list[int], seconds: float, reading_features: frozenset[str]
    ) -> None:
        self.recipe, self.out, self.steps = recipe, out, steps
        self.rows: list[Row] = []
        self._reading_features = reading_features
        self._end = time.monotonic() + seconds
        self._slowest = 0.0
        """Seconds per step, evaluation included."""

    def fits(self, rung: int) -> bool:
        """Whether a run of this length would end in time."""
        return time.monotonic() + self._slowest * self.steps[rung] < self._end

    def alone(self, rung: int) -> float:
        """AP of the student without a teacher."""
        return self._row(None, rung, self.recipe.alone(), self.out / "runs" / f"none-{self.steps[rung]}").ap

    def run(self, trial: Trial, rung: int) -> float:
        """AP of a candidate."""
        recipe = self.recipe.model_copy(update={"distill": trial.terms(self.recipe, self._reading_features)})
        return self._row(trial, rung, recipe, self.out / "runs" / f"trial-{trial.number:03d}-{self.steps[rung]}").ap

    def _row(self, trial: Trial | None, rung: int, recipe: Recipe, folder: Path) -> Row:
        known = [row for row in self.rows if (row.trial, row.rung) == (trial, rung)]
        if known:
            return known[0]
        whole = {"max_steps": self.steps[rung], "evaluate_every": 0, "patience": None}
        train = recipe.train.model_copy(update=whole)
        recipe = recipe.model_copy(update={"train": train})
        require_same_recipe(recipe, folder)
        if not (folder / METRICS).exists():
            train_one(recipe, folder)
        seconds = float(cost_of(folder)["wall_seconds"])
        self._slowest = max(self._slowest, seconds / self.steps[rung])
        ap = float(json.loads((folder / METRICS).read_text(encoding="utf-8"))["AP"])
        row = Row(trial=trial, rung=rung, steps=self.steps[rung], ap=ap, seconds=seconds)
        self.rows.append(row)
        print(f"{trial or 'student alone'}: {row.steps} steps, AP {ap:.3f} held out", file=sys.stderr, flush=True)
        return row
