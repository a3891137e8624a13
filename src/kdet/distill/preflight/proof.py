"""Distillation that does nothing is an error before the first epoch, not a surprise after the last."""

import hashlib
import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdet.distill.criterion import Criterion
from kdet.distill.distiller import Distiller, sum_of
from kdet.distill.preflight.forward_probe import ForwardProbe, missing_outputs, other_pixels, watch
from kdet.distill.weighting.gradients import gradients_of
from kdet.errors import InputError
from kdet.ops.randomness import seeded
from kdet.types import Batch, GradientRatio

_ROUNDING = 3e-7
"""What float32 makes of a similarity of exactly 1: two equal models cost this much, and no real pair so little."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one real step has shown."""

    values: dict[str, float]
    """The terms' values before weight and schedule; empty where they could not be computed."""
    gradients: dict[str, GradientRatio]
    """Gradients at the student's neck, schedules set aside; empty where a fault keeps the terms from acting."""
    weights: dict[str, float]
    """Weight of each part of each term; under `weight: auto` as measured in this one step."""
    faults: dict[str, list[str]]
    """What was looked at, in words → what is wrong there and how to mend it; an empty list where all is well."""

    @property
    def all_faults(self) -> list[str]:
        """All faults in the order in which they were looked for."""
        return [fault for found in self.faults.values() for fault in found]


def prove_it_acts(
    distiller: Distiller, batch: Batch, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, float]:
    """Run one real forward and backward pass per term, schedules set aside; change nothing, random numbers neither.

    Args:
        distiller: in training mode; neither weights, buffers nor gradients change.
        batch: with at least one object.
        optimizer: if given, it must hold all that is trained for the terms, and nothing of the teacher.

    Returns:
        The terms' raw values by name.

    Raises:
        InputError: the first fault that `examine` finds, and how many there are.
    """
    return {} if distiller.criterion is None else proven(distiller, batch, optimizer).values


def proven(distiller: Distiller, batch: Batch, optimizer: torch.optim.Optimizer | None = None) -> Evidence:
    """Return what `examine` found, without a fault; arguments and errors as of `prove_it_acts`."""
    evidence = examine(distiller, batch, optimizer)
    if faults := evidence.all_faults:
        more = f" (and {len(faults) - 1} more; `kdet check` names them all)" if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    return evidence


def examine(distiller: Distiller, batch: Batch, optimizer: torch.optim.Optimizer | None = None) -> Evidence:
    """Look in one real step for all that can keep distillation from acting; arguments as of `prove_it_acts`."""
    criterion, teachers = distiller.criterion, [paired.teacher.model for paired in distiller.paired_teachers]
    assert criterion is not None
    before = [state_hash(teacher) for teacher in teachers]
    faults = {
        "terms have weights": list(_weightless(criterion)),
        "teacher and student have different weights": list(_same_weights(distiller)),
        "the optimizer holds all that is trained": list(_outside(distiller, optimizer)),
        "the teacher is frozen and in evaluation mode": [fault for teacher in teachers for fault in _awake(teacher)],
    }
    # Batch statistics move; the run starts as if nothing had been.
    with buffers_kept(distiller), seeded(torch.initial_seed(), device=batch.images.device):
        watched = watch(distiller, batch)
        silent = list(missing_outputs(distiller, watched))
        raw, broken = ({}, []) if silent else _raw(criterion, watched)
        values = {name: parts.sum() for name, parts in raw.items()}
        faults |= {
            "both models gave what the terms read": [*silent, *broken],
            "teacher and student saw the same pixels": list(other_pixels(watched)),
            "terms are more than 0": list(_worthless(criterion, values)),
            "the gradient of each term reaches the student": list(_without_effect(distiller, values)),
        }
        gradients = {} if any(faults.values()) else _pulls(criterion, watched, raw)
        weights = criterion.weights()
    same = [state_hash(teacher) for teacher in teachers] == before
    faults["the step left the teacher unchanged"] = [] if same else [_CHANGED]
    shown = {name: float(value.detach()) for name, value in values.items()}
    return Evidence(values=shown, gradients=gradients, weights=weights, faults=faults)


def state_hash(module: nn.Module) -> str:
    """Hash all parameters and buffers bit for bit."""
    found = hashlib.blake2b()
    for name, tensor in module.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


_CHANGED = (
    "the teacher's weights or statistics changed in one step of the student; keep it out of the optimizer and in "
    "evaluation mode (kdet.Distiller freezes it; nothing may wake it afterwards)"
)


def _weightless(criterion: Criterion) -> Iterator[str]:
    for term in criterion.terms:
        if term.weight == 0 and not term.placebo:
            yield f"{term.name}: weight 0 distils nothing; give it a weight, or leave the term out"


def _same_weights(distiller: Distiller) -> Iterator[str]:
    """A teacher that is the student itself; some terms are not 0 even then, but for noise alone."""
    ours = dict(distiller.model.named_parameters())
    for paired in distiller.paired_teachers:
        theirs = dict(paired.teacher.model.named_parameters())
        if all(term.placebo for term in paired.terms) or ours.keys() != theirs.keys():
            continue
        if all(torch.equal(p, theirs[name]) for name, p in ours.items()):
            yield (
                "teacher and student have the same weights, so there is nothing to learn; "
                "name another teacher, or start the student from other weights"
            )


def _outside(distiller: Distiller, optimizer: torch.optim.Optimizer | None) -> Iterator[str]:
    assert distiller.criterion is not None
    if optimizer is None:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in distiller.criterion.named_parameters():
        if parameter.requires_grad and id(parameter) not in held:
            yield f"{name} is trainable but not in the optimizer; build it from distiller.parameters()"
    if not any(id(p) in held for p in distiller.model.parameters() if p.requires_grad):
        yield "the optimizer holds nothing of the student; build it from distiller.parameters()"
    for paired in distiller.paired_teachers:
        for name, parameter in paired.teacher.model.named_parameters():
            if id(parameter) in held:
                yield f"the teacher's {name} is in the optimizer; build it from distiller.parameters()"


def _awake(teacher: nn.Module) -> Iterator[str]:
    awake = [name or "whole model" for name, module in teacher.named_modules() if module.training]
    if awake:
        more = f" and {len(awake) - 1} more modules are" if len(awake) > 1 else " is"
        yield (
            f"the teacher's {awake[0]}{more} in training mode, so its answers depend on the batch and its statistics "
            "drift; put it back with .eval(), and look for what woke it"
        )
    trained = [name for name, parameter in teacher.named_parameters() if parameter.requires_grad]
    if trained:
        yield f"the teacher's {trained[0]} (1 of {len(trained)}) requires a gradient; freeze it: requires_grad_(False)"


def _raw(criterion: Criterion, watched: ForwardProbe) -> tuple[dict[str, Tensor], list[str]]:
    """The raw terms by parts; or none, and why a loss refused what it was given."""
    try:
        return criterion.raw(watched.contexts), []
    except ValueError as error:
        return {}, [f"a term cannot be computed: {error}"]


def _pulls(criterion: Criterion, watched: ForwardProbe, raw: dict[str, Tensor]) -> dict[str, GradientRatio]:
    seen = watched.contexts[0].student
    assert seen.features is not None
    return criterion.measured(seen.features, sum_of(seen.losses), raw)


def _worthless(criterion: Criterion, values: Mapping[str, Tensor]) -> Iterator[str]:
    for term in criterion.terms:
        if term.placebo or term.name not in values:
            continue
        shown = float(values[term.name].detach())
        if not math.isfinite(shown):
            yield f"{term.name}: its value on the first batch is {shown}; check the teacher's weights"
        elif shown <= _ROUNDING:
            yield (
                f"{term.name}: its value on the first batch is {shown}, so it would teach nothing; "
                "do teacher and student see the same there, or does the batch hold nothing that it compares?"
            )


def _without_effect(distiller: Distiller, values: Mapping[str, Tensor]) -> Iterator[str]:
    assert distiller.criterion is not None
    trained = [p for p in distiller.model.parameters() if p.requires_grad]
    for term in distiller.criterion.terms:
        if term.placebo or term.name not in values or not values[term.name].isfinite():
            continue
        if not any(g is not None and bool(g.abs().max() > 0) for g in gradients_of(values[term.name], trained)):
            yield (
                f"{term.name}: no gradient reaches the student; are its features detached, kept from an earlier "
                "pass, or all layers frozen?"
            )
        if any(g is None for g in gradients_of(values[term.name], distiller.criterion.trained_parts(term))):
            yield f"{term.name}: its adapter, or another part that is trained for it, gets no gradient"


@contextmanager
def buffers_kept(module: nn.Module) -> Generator[None]:
    """Keep batch statistics and the like: they are afterwards as they are now."""
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(kept[name])
