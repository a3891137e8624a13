"""Distillation that does nothing is an error before the first epoch, not a surprise after the last."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdet.distill.distiller import Distiller
from kdet.distill.terms import Term
from kdet.errors import InputError
from kdet.types import Batch, Need

_ROUNDING = 3e-7
"""What float32 makes of a similarity of exactly 1: two equal models cost this much, and no real pair so little."""


def prove_it_acts(
    distiller: Distiller, batch: Batch, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, float]:
    """One real forward and backward per term, schedules set aside; nothing is changed.

    Args:
        distiller: in training mode; neither weights, buffers nor gradients change.
        batch: with at least one object.
        optimizer: if given, it must hold every adapter.

    Returns:
        The terms' raw values by name.

    Raises:
        InputError: both models have the same weights; or a term has weight 0, value 0, or gives the student or its
            adapter no gradient.
    """
    criterion = distiller.criterion
    if criterion is None:
        return {}
    for term in criterion.terms:
        if term.weight == 0 and not term.placebo:
            raise InputError(f"{term.name}: weight 0 distils nothing; give it a weight, or leave the term out")
    if not all(term.placebo for term in criterion.terms):
        _require_other_weights(distiller)
    if optimizer is not None:
        _require_in_optimizer(criterion, optimizer)
    kept = {name: buffer.clone() for name, buffer in distiller.named_buffers()}
    seen = distiller.student.observe(batch, criterion.student_needs | {Need.LOSSES}, batch.targets)
    values = criterion.raw(distiller.sight(batch, seen))
    for term in criterion.terms:
        if not term.placebo:
            _require_effect(term, values[term.name], distiller.model, criterion.trained_parts(term))
    with torch.no_grad():  # batch statistics moved in the forward; the run starts as if nothing had been
        for name, buffer in distiller.named_buffers():
            buffer.copy_(kept[name])
    return {name: float(value.detach()) for name, value in values.items()}


def _require_other_weights(distiller: Distiller) -> None:
    """A teacher that is the student itself; some terms are not 0 even then, but for noise alone."""
    assert distiller.teacher is not None
    ours, theirs = dict(distiller.model.named_parameters()), dict(distiller.teacher.model.named_parameters())
    if ours.keys() == theirs.keys() and all(torch.equal(p, theirs[name]) for name, p in ours.items()):
        raise InputError(
            "teacher and student have the same weights, so there is nothing to learn; "
            "name another teacher, or start the student from other weights"
        )


def _require_effect(term: Term, value: Tensor, student: nn.Module, parts: list[nn.Parameter]) -> None:
    shown = float(value.detach())
    if not math.isfinite(shown):
        raise InputError(f"{term.name}: its value on the first batch is {shown}; check the teacher's weights")
    if shown <= _ROUNDING:
        raise InputError(
            f"{term.name}: its value on the first batch is {shown}, so it would teach nothing; "
            "do teacher and student see the same there, or does the batch hold nothing that it compares?"
        )
    trained = [p for p in student.parameters() if p.requires_grad]
    if not any(g is not None and bool(g.abs().max() > 0) for g in _gradients(value, trained)):
        raise InputError(
            f"{term.name}: no gradient reaches the student; are its features detached or all layers frozen?"
        )
    if any(g is None for g in _gradients(value, parts)):
        raise InputError(f"{term.name}: its adapter, or another part that is trained for it, gets no gradient")


def _gradients(value: Tensor, parameters: list[nn.Parameter]) -> Sequence[Tensor | None]:
    """Of one term; None where it does not depend on a parameter."""
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)


def _require_in_optimizer(criterion: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in criterion.named_parameters():
        if parameter.requires_grad and id(parameter) not in held:
            raise InputError(f"{name} is trainable but not in the optimizer; build it from distiller.parameters()")
