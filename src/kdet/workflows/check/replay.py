"""kdet check --replay: a step that broke, done again and looked at part by part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.distill import Distiller, readings
from kdet.distill.weighting.gradients import gradients_of
from kdet.train import Recipe
from kdet.train.prepare import build_pair
from kdet.train.processes.engine import Engine
from kdet.train.state import bad_batch
from kdet.types import Batch


def replay(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return what every part of the forward pass holds, and how large the gradient of each part of the loss is.

    Args:
        recipe: of the run; its recipe.yaml.
        folder: what the run kept of the step.

    Raises:
        InputError: not such a folder, or of another recipe.
    """
    kept = bad_batch.read(folder)
    engine = Engine(recipe.train.precision)
    distiller = build_pair(recipe, kept.class_names)[0].to(engine.device).train()
    batch = bad_batch.restore(kept, distiller, engine.device)
    with engine.autocast():
        found = readings(distiller, batch)
        norms = _gradient_norms(distiller, batch)
    parts = [{"name": r.name, "low": r.low, "high": r.high, "broken": r.broken, "count": r.count} for r in found]
    return {
        "step": kept.step,
        "images": kept.batch.image_ids,
        "parts": parts,
        "gradients": norms,
        "finite": not any(r.broken for r in found) and all(torch.isfinite(torch.tensor(n)) for n in norms.values()),
        "text": [str(r) for r in found],
    }


def as_text(result: dict[str, Any]) -> str:
    """Return the replay as text for a person."""
    lines = [
        f"step {result['step'] + 1} on images {result['images']}, done again:",
        *(f"  {t}" for t in result["text"]),
    ]
    lines += [f"  gradient of {name}: {norm:.4g}" for name, norm in result["gradients"].items()]
    good = "all of it is finite here: what broke lay in the precision, or in the optimizer's state"
    return "\n".join([*lines, good if result["finite"] else "not finite: see above; the first such line is the cause"])


def _gradient_norms(distiller: Distiller, batch: Batch) -> dict[str, float]:
    """Compute the gradient norm of each part of the loss over all that is trained."""
    trained = [p for p in distiller.parameters() if p.requires_grad]
    try:
        parts = distiller(batch).parts
    except ValueError:  # a loss that refuses what it reads; the readings show where
        return {}
    return {name: _norm(gradients_of(value, trained)) for name, value in parts.items() if value.requires_grad}


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return float(torch.nn.utils.get_total_norm([g for g in gradients if g is not None]))
