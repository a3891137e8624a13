"""A run that goes on: which settings it may take anew, and which are those that it began with."""

from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel

from kdet.errors import InputError
from kdet.files import parse_json, parse_yaml, read_text
from kdet.train.optim import learning_rate, steps_of
from kdet.train.recipe.schema import Recipe
from kdet.train.state.run import Run
from kdet.train.state.run_folder import RECIPE, rewrite_recipe, write_json

CHANGES = "changes.json"
"""What a run took anew when it went on, with the step from which it holds; `recipe.yaml` is what holds last."""
MAY_CHANGE = frozenset(
    f"train.{name}"
    for name in (
        *("epochs", "max_steps", "lr", "lr_schedule", "warmup_steps", "clip_norm", "skip_nonfinite"),
        *("batch_size", "accumulate"),  # other numbers of processes make the same steps with others
        *("evaluate_every", "patience", "save_minutes", "workers", "log_every", "shard"),
    )
)
"""Everything else would make the first part of a run another's: its data, its models, its optimizer's state."""

_AT_ANY_TIME = frozenset(
    f"train.{name}" for name in ("workers", "log_every", "save_minutes", "evaluate_every", "shard")
)
"""Those of these settings that change nothing of what a run has learned."""


def changed(recipe: Recipe, folder: Path) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which a recipe differs from the one that a run began with: old and new value by key.

    Args:
        recipe: as it is recorded, defaults spelt out.
        folder: of the run.

    Raises:
        InputError: one of them is none that a run may take anew.
    """
    text = read_text(folder / RECIPE)
    begun = None if text is None else parse_yaml(text, str(folder / RECIPE), yaml.SafeLoader)
    if not isinstance(begun, dict):
        return {}
    before, after = _flat(cast("dict[str, Any]", begun)), _flat(recipe.model_dump(mode="json"))
    defaults = _flat(_defaults(recipe))
    # A key that was not there yet when the run began had what is its default now.
    keys = [key for key in after if key in before or key in defaults]
    found = {key: (before.get(key, defaults.get(key)), after[key]) for key in keys}
    found |= {key: (value, None) for key, value in before.items() if key not in after}
    found = {key: pair for key, pair in found.items() if pair[0] != pair[1]}
    if fixed := [key for key in found if key not in MAY_CHANGE]:
        key, (old, new) = fixed[0], found[fixed[0]]
        more = f", and {', '.join(fixed[1:6])}" if len(fixed) > 1 else ""
        raise InputError(
            f"{folder}: --resume cannot change {key} from {_shown(old)} to {_shown(new)}{more}: the run would be "
            "another one; leave it as it was, or begin anew under another name with --run"
        )
    return found


def take_anew(run: Run, recorded: Recipe, changes: dict[str, tuple[Any, Any]]) -> list[str]:
    """Record the settings that a run takes anew, and say them.

    Args:
        run: where its saved state stands.
        recorded: its recipe as it is recorded.
        changes: as `changed` returns them.

    Raises:
        InputError: the run has no step left for which they would hold.
    """
    step = run.counters.step
    if step >= run.total_steps:
        # Of a run that is done nothing could change but its record.
        if late := [key for key in changes if key not in _AT_ANY_TIME]:
            old, new = changes[late[0]]
            raise InputError(
                f"{run.folder}: has done its {step} steps, so {late[0]} {_shown(new)} would hold for none of them "
                "(it was "
                f"{_shown(old)}); leave it as it was, raise train.epochs to go on, or begin anew under another name "
                "with --run"
            )
        return []
    if not changes:
        return []
    before = begun_with(recorded, changes)
    if run.engine.is_main:
        record(run.folder, changes, step)
        rewrite_recipe(recorded, run.folder)
    lines = [f"from step {step} on {key} is {new}; it was {old}" for key, (old, new) in changes.items()]
    if line := jump(before, run.recipe, step, steps_of(before.train, run.sampler.steps), run.total_steps):
        lines.append(f"from step {step} on {line}")
    return lines


def begun_with(recipe: Recipe, changes: dict[str, tuple[Any, Any]]) -> Recipe:
    """Return the recipe before these changes."""
    old = {key.removeprefix("train."): value for key, (value, _) in changes.items()}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=old)})


def record(folder: Path, changes: dict[str, tuple[Any, Any]], step: int) -> None:
    """Add to the file of changes."""
    text = read_text(folder / CHANGES)
    known: Any = [] if text is None else parse_json(text, str(folder / CHANGES))
    new = [{"step": step, "key": key, "from": old, "to": value} for key, (old, value) in changes.items()]
    write_json(folder / CHANGES, [*(known if isinstance(known, list) else []), *new])


def jump(before: Recipe, after: Recipe, step: int, steps_before: int, steps_after: int) -> str | None:
    """Return one line about a learning rate that is not what it was going to be; None where it is."""
    old = learning_rate(before.train, min(step, steps_before - 1), steps_before)
    new = learning_rate(after.train, min(step, steps_after - 1), steps_after)
    if max(old, new) <= 1.05 * min(old, new):
        return None
    return f"the learning rate goes on at {new:.3g}; without the change it was {old:.3g} at this step"


def _flat(content: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        found |= (
            _flat(value, f"{name}.")
            if isinstance(value, dict) and value
            else {name: value or None if value == {} else value}
        )
    return found


def _defaults(model: BaseModel) -> dict[str, Any]:
    """The values that keys have where nobody gives them."""
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found[name] = _defaults(value)
        elif not field.is_required():
            default: Any = field.get_default(call_default_factory=True)
            found[name] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    return found


def _shown(value: Any) -> str:
    return str(value)[:80]
