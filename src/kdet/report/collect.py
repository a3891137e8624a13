"""A run folder as it lies on the disk → RunSummary. Reads files and nothing else; the run may still go on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from kdet.errors import InputError
from kdet.files import MOST_YAML_BYTES, is_folder, parse_json, parse_yaml, read_text

Json = Mapping[str, Any]

_RECORD_START = '{"kind"'


@dataclass(frozen=True)
class GradientRecord:
    """How a distillation term pulled at the student's neck, against the task losses."""

    ratio: float
    """Norm of its gradient / norm of the task's."""
    cosine: float


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One training step as logged."""

    step: int
    epoch: int
    lr: float
    total: float
    parts: Mapping[str, float]
    """Weighted losses by name; their sum is `total`."""
    images_per_second: float | None = None
    gradients: Mapping[str, GradientRecord] = field(default_factory=dict[str, GradientRecord])
    """Gradients by term, where they were measured."""
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """Weights of the terms with `weight: auto`."""


@dataclass(frozen=True, kw_only=True)
class EvalRecord:
    """One look at AP during the run."""

    step: int
    epoch: int
    metrics: Json


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """All that a report says about one run; what the run has not written yet is empty or None."""

    folder: Path
    recipe: Json
    recipe_text: str
    environment: Json
    steps: tuple[StepRecord, ...]
    """Records by step; of a step that was repeated after a kill, the last one."""
    evaluations: tuple[EvalRecord, ...]
    """Evaluations by step, likewise."""
    metrics: Json | None
    teacher: Json | None
    curves: Json | None
    predictions: Json | None
    notes: tuple[str, ...]
    """What was left out in reading, and what the run assumed."""
    teacher_curves: Json | None = None
    teacher_predictions: Json | None = None
    changes: tuple[str, ...] = ()
    """Settings that it took anew when it was resumed, with the step from which they hold; `recipe` holds last."""
    maps: Json | None = None
    """maps/maps.json: validation images, and what both models make of them inside."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def teacher_ap(self) -> float | None:
        """AP of the teacher on the same images."""
        return None if self.teacher is None else self.teacher.get("AP")


def read_run(folder: Path) -> RunSummary:
    """Read one run folder.

    Raises:
        InputError: not a run folder, or a file in it is not what a run writes there.
    """
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; name what `kdet train` or `kdet distill` wrote")
    if not any((folder / name).is_file() for name in ("recipe.yaml", "log.jsonl", "metrics.json")):
        raise InputError(
            f"{folder}: not a run folder (no recipe.yaml, log.jsonl or metrics.json in it); name what `kdet train` "
            "or `kdet distill` wrote"
        )
    recipe_text = read_text(folder / "recipe.yaml", MOST_YAML_BYTES) or ""
    records, broken = _log(folder / "log.jsonl")
    return RunSummary(
        folder=folder,
        recipe=_recipe(recipe_text, folder / "recipe.yaml"),
        recipe_text=recipe_text,
        environment=_json(folder / "environment.json") or {},
        steps=_steps(records, folder / "log.jsonl"),
        evaluations=_evaluations(records, folder / "log.jsonl"),
        metrics=_json(folder / "metrics.json"),
        teacher=_json(folder / "teacher.json"),
        curves=_json(folder / "curves.json"),
        predictions=_json(folder / "predictions.json"),
        teacher_curves=_json(folder / "teacher-curves.json"),
        teacher_predictions=_json(folder / "teacher-predictions.json"),
        changes=_changes(folder / "changes.json"),
        maps=_json(folder / "maps" / "maps.json"),
        notes=(*_broken(broken), *_assumptions(records)),
    )


def _changes(path: Path) -> tuple[str, ...]:
    text = read_text(path)
    records: Any = [] if text is None else parse_json(text, str(path))
    try:
        return tuple(
            f"from step {_count(record['step'])} on {record['key']} is {record['to']}; it was {record['from']}"
            for record in records
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: lacks or garbles {error}; take it away, or mend it") from None


def _broken(lines: int) -> tuple[str, ...]:
    return (f"log.jsonl: {lines} broken line{'s' * (lines > 1)} left out",) if lines else ()


def _assumptions(records: Sequence[Json]) -> tuple[str, ...]:
    """What the run took for granted without evidence, in its own words."""
    texts = (str(record.get("text", "")) for record in records if record.get("kind") == "note")
    return tuple(text for text in texts if " are assumed to be " in text)


def looks_of(folder: Path) -> tuple[EvalRecord, ...]:
    """Return the looks at AP of a run, as far as it is; empty before the first one.

    Raises:
        InputError: its log is not that of a run.
    """
    path = folder / "log.jsonl"
    return _evaluations(_log(path)[0], path)


def _json(path: Path) -> Json | None:
    """None where there is no such file (yet)."""
    text = read_text(path)
    if text is None:
        return None
    # Runs replace these files whole, so a broken one is no sign of a run that was killed.
    content = parse_json(text, str(path))
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a JSON object, got {type(content).__name__}; take the file away, or mend it"
        )
    return cast(Json, content)


def _recipe(text: str, path: Path) -> Json:
    content = parse_yaml(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected keys and values, got {type(content).__name__}; take the file away, or mend it"
        )
    return cast(Json, content)


def _log(path: Path) -> tuple[list[Json], int]:
    """The records, and how many lines were broken by a kill."""
    records: list[Json] = []
    broken = 0
    for line in (read_text(path) or "").splitlines():
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            broken += 1
        else:
            records.append(record)
    if broken and not records:
        raise InputError(f"{path}: not a run's log (no line of it is a JSON record); take it away")
    return records, broken


def _record(line: str) -> Json | None:
    # A resumed run appends to the line that the kill cut short: what follows the stump is whole.
    starts = [0, line.rfind(_RECORD_START)] if _RECORD_START in line else [0]
    for start in starts:
        try:
            record: Any = json.loads(line[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            return cast(Json, record)
    return None


def _steps(records: list[Json], path: Path) -> tuple[StepRecord, ...]:
    last: dict[int, StepRecord] = {}
    for record in records:
        if record.get("kind") != "step":
            continue
        try:
            step = StepRecord(
                step=_count(record["step"]),
                epoch=_count(record["epoch"]),
                lr=float(record["lr"]),
                total=float(record["total"]),
                parts={str(name): float(value) for name, value in record["parts"].items()},
                images_per_second=record.get("images_per_second"),
                gradients={
                    str(name): GradientRecord(float(pull["ratio"]), float(pull["cosine"]))
                    for name, pull in record.get("gradients", {}).items()
                },
                weights={str(name): float(value) for name, value in record.get("weights", {}).items()},
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(
                f"{path}: a step record lacks or garbles {error}: {_short(record)}; take that line out"
            ) from None
        last[step.step] = step
    return tuple(last[step] for step in sorted(last))


def _evaluations(records: list[Json], path: Path) -> tuple[EvalRecord, ...]:
    last: dict[int, EvalRecord] = {}
    for record in records:
        if record.get("kind") != "eval":
            continue
        try:
            look = EvalRecord(
                step=_count(record["step"]), epoch=_count(record["epoch"]), metrics=dict(record["metrics"])
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: an eval record lacks or garbles {error}: {_short(record)}; take that line out"
            ) from None
        last[look.step] = look
    return tuple(last[step] for step in sorted(last))


def _count(value: Any) -> int:
    """A whole number that can be drawn."""
    count = int(value)
    if abs(count) >= 2**53:
        raise ValueError("a number of steps or epochs")
    return count


def _short(record: Json) -> str:
    text = json.dumps(record)
    return text if len(text) <= 100 else text[:99] + "…"
