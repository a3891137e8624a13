"""Where the memory of a training process goes: measured, for one batch."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from kdet.distill import Distiller
from kdet.train.processes.engine import Engine
from kdet.types import Batch


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process."""

    parameters: int
    """Student, and all that is trained for the terms."""
    gradients: int
    optimizer: int
    """Its state after a step."""
    average: int
    """The moving average of the weights, where the recipe wants one."""
    teacher: int
    """Weights and statistics."""
    activations: int
    """What is kept for the backward pass of one batch; buffers that live inside one operation are not in it."""
    gpu_peak: int | None = None
    """The most that torch held on the GPU during a step, everything included."""

    @property
    def total(self) -> int:
        """The sum, without what lives inside one operation."""
        return sum(
            (self.parameters, self.gradients, self.optimizer, self.average, self.teacher, self.activations),
        )


def memory_of(
    distiller: Distiller, optimizer: Optimizer, *, average: bool, activations: int, gpu_peak: int | None = None
) -> Memory:
    """Sum up the memory of a step whose `activations` are known.

    Args:
        distiller: with its teachers.
        optimizer: before its first step, it is counted as after it.
        average: whether the run keeps a moving average of the student.
        activations: what `kept_for_backward` measured.
        gpu_peak: what torch counted.
    """
    trained = bytes_of(p for group in optimizer.param_groups for p in group["params"])
    held = bytes_of(v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor))
    return Memory(
        parameters=bytes_of([*distiller.parameters(), *distiller.buffers()]),
        gradients=trained,
        optimizer=held or trained * (2 if isinstance(optimizer, AdamW) else 1),
        average=bytes_of([*distiller.model.parameters(), *distiller.model.buffers()]) if average else 0,
        teacher=sum(bytes_of(paired.teacher.model.state_dict().values()) for paired in distiller.paired_teachers),
        activations=activations,
        gpu_peak=gpu_peak,
    )


def kept_for_backward(module: nn.Module, batch: Batch, engine: Engine) -> int:
    """Count the bytes that autograd keeps of one forward pass, each storage once, without weights and the batch."""
    own = [*module.parameters(), *module.buffers(), batch.images]
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, _as_it_is), engine.autocast():
        total: Tensor = module(batch).total
        assert total.requires_grad  # the graph lives until here, so no storage was counted under another's address
    return sum(kept.values())


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the sum of the tensors' sizes in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
