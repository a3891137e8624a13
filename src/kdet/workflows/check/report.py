"""What `kdet check` found, section by section, ready for JSON."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from kdet.distill import Distiller, PairedTeacher
from kdet.distill.preflight.proof import Evidence
from kdet.train.recipe.schema import TrainRecipe
from kdet.workflows.check.problems import Problem
from kdet.workflows.check.step_cost import StepCost
from kdet.workflows.check.teacher_worth import Worth


@dataclass(frozen=True, kw_only=True)
class Report:
    """A section that the recipe has no use for, or that could not be found out, is None."""

    data: dict[str, Any]
    classes: dict[str, Any] | None = None
    levels: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    more_teachers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """`classes`, `levels` and `teacher` of each further teacher."""
    terms: dict[str, Any] | None = None
    step: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    trial: dict[str, Any] | None = None
    """A few steps with and without each term, where they were asked for."""
    notes: list[str] = field(default_factory=list[str])
    problems: list[Problem] = field(default_factory=list[Problem])

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def passed(self, *, strict: bool = False) -> bool:
        """Whether distillation would act; with `strict`, whether nothing is doubtful either."""
        return not any(strict or problem.status == "failed" for problem in self.problems)


def teacher_sections(paired: PairedTeacher, worth: Worth | None) -> dict[str, Any]:
    """Return what belongs together between the student and one teacher, and what the teacher is worth."""
    return {"classes": _classes(paired), "levels": _levels(paired), "teacher": worth and asdict(worth)}


def _classes(paired: PairedTeacher) -> dict[str, Any] | None:
    """Say which column of the student's class layer belongs to which of the teacher's."""
    found, theirs = paired.pairing.classes, paired.teacher.class_names
    if not theirs:
        return None
    pairs = zip(found.names, found.student, found.teacher, strict=True)
    return {
        "assumed": paired.assumes_classes,
        "reordered": found.reordered,
        "pairs": [{"name": name, "student": s, "teacher": t, "teacher_name": theirs[t]} for name, s, t in pairs],
        "only_student": list(found.only_student),
        "only_teacher": list(found.only_teacher),
    }


def _levels(paired: PairedTeacher) -> dict[str, Any]:
    """Say which levels are compared."""
    pairs = [
        {
            "stride": p.stride,
            "student_channels": p.student_channels,
            "teacher_stride": p.teacher_stride,
            "teacher_channels": p.teacher_channels,
        }
        for p in paired.features.levels
    ]
    return {"pairs": pairs, "left_out": list(paired.features.left_out)}


def terms_section(distiller: Distiller, evidence: Evidence) -> dict[str, Any]:
    """Return each term's value, weight and pull on the first batch, and what the proof looked at."""
    criterion = distiller.criterion
    assert criterion is not None
    terms: dict[str, Any] = {}
    for term in criterion.terms:
        pull = evidence.gradients.get(term.name)
        terms[term.name] = {
            "weight": term.weight,
            "weights": {part.name: evidence.weights[part.name] for part in criterion.parts[term.name]},
            "value": _finite(evidence.values.get(term.name)),
            "ratio": _finite(pull and pull.ratio),
            "cosine": _finite(pull and pull.cosine),
            "placebo": term.placebo,
        }
    return {"terms": terms, "checks": evidence.faults}


def step_section(
    settings: TrainRecipe, device: str, workers: int, steps_per_epoch: int, load: float, cost: StepCost
) -> dict[str, Any]:
    """Return the seconds of a step, and of the run that is made of them; evaluation is not in it."""
    batches = steps_per_epoch * settings.epochs
    if settings.max_steps is not None:
        batches = min(batches, settings.max_steps * settings.accumulate)

    def run(seconds: float) -> float:
        return batches * (max(seconds, load / workers) if workers else seconds + load)

    return {
        "device": device,
        "batch_size": settings.batch_size,
        "seconds": cost.seconds,
        "alone_seconds": cost.alone_seconds,
        "load_seconds": load,
        "batches": batches,
        "run_seconds": run(cost.seconds),
        "alone_run_seconds": run(cost.alone_seconds),
    }


def memory_section(cost: StepCost) -> dict[str, Any]:
    """Return the bytes by what they are for."""
    return asdict(cost.memory) | {"total": cost.memory.total}


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
