"""What is trained, divided over the processes by FSDP2. The engine imports this late: torch takes long to load it."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.optim import Optimizer

from kdet.types import LossReport


class Entry(nn.Module):
    """The distiller as FSDP2 must see it to work: with tensors in the output, and no exception on the way out."""

    def __init__(self, distiller: nn.Module) -> None:
        super().__init__()
        self.distiller = distiller

    def forward(self, *arguments: Any, **options: Any) -> tuple[Tensor, LossReport] | ValueError:
        """The report, its total beside it because hooks do not find tensors inside dataclasses."""
        try:
            report: LossReport = self.distiller(*arguments, **options)
        except ValueError as error:  # a loss that refuses NaN; `_opened` raises it
            return error
        return report.total, report


class Sharding:
    """A module in parts: each process holds its own of every parameter, and the optimizer's state of it.

    Only the root is divided, so that its `forward` is the one place where parameters become whole, and detectors may
    call their modules as they like inside. A step needs room for whole parameters and gradients, and for a part of
    the optimizer's state. FSDP2 does not take parameters without dimensions (a factor of FCOS-like heads): these stay
    whole, and the optimizer gets a replicated DTensor in their place, for it cannot mix both kinds.
    """

    def __init__(self, module: Entry, optimizer: Optimizer, device: torch.device) -> None:
        """Divide a module in place, and what its optimizer holds by now."""
        self.mesh: DeviceMesh = init_device_mesh(device.type, (dist.get_world_size(),))
        before = dict(module.named_parameters())
        for parameter in before.values():  # FSDP2 takes no channels-last weights
            parameter.data = parameter.data.contiguous()
        self.scalars = [parameter for parameter in before.values() if parameter.dim() == 0]
        self.module: FSDPModule = fully_shard(module, mesh=self.mesh, ignored_params=set(self.scalars))
        module.register_forward_hook(_opened)  # after FSDP's own hook
        self.stand_ins = {scalar: self._stand_in(scalar) for scalar in self.scalars}
        after = {name: self.stand_ins.get(own, own) for name, own in module.named_parameters()}
        _exchange(optimizer, {parameter: after[name] for name, parameter in before.items()})

    @contextmanager
    def whole(self) -> Generator[None]:
        """Parameters are plain and whole meanwhile; what is written into them is lost. All ranks must take part.

        A `state_dict()` ends it, for FSDP2 always answers with parts; `whole_of` is for those.
        """
        self.module.unshard()
        try:
            yield
        finally:
            self.module.reshard()

    def accumulate(self, *, updates: bool) -> None:
        """Whether the next backward pass completes the gradients, that is shares them between processes."""
        self.module.set_requires_gradient_sync(updates)

    def share_scalars(self) -> None:
        """The mean over ranks of what FSDP2 leaves alone, handed to the optimizer."""
        found = [scalar for scalar in self.scalars if scalar.grad is not None]
        if not found:
            return
        means = torch.stack([cast(Tensor, scalar.grad).float() for scalar in found])
        dist.all_reduce(means)
        for scalar, mean in zip(found, means / self.mesh.size(), strict=True):
            own = mean.to(scalar.dtype)
            self.stand_ins[scalar].grad = DTensor.from_local(own, self.mesh, [Replicate()], run_check=False)
            scalar.grad = None

    def forget_gradients(self, module: nn.Module) -> None:
        """Those of a step that is left out, which no optimizer sees before they are shared. All ranks take part."""
        with self.whole():
            module.zero_grad(set_to_none=True)

    def gradients(self, module: nn.Module) -> Iterator[tuple[str, DTensor]]:
        """Gradients by the parameter's name, as they are when shared."""
        for name, parameter in module.named_parameters():
            gradient = self.stand_ins.get(parameter, parameter).grad
            if gradient is not None:
                yield name, cast(DTensor, gradient)

    def clip(self, module: nn.Module, norm: float | None) -> float:
        """Scale the gradient down to a norm, where one is wanted; returns the norm that it had over all processes."""
        gradients = [gradient for _, gradient in self.gradients(module)]
        if not gradients:
            return 0.0
        found = float(cast(DTensor, nn.utils.get_total_norm(gradients)).full_tensor())
        if norm is not None and found > norm:
            for gradient in gradients:
                gradient.to_local().mul_(norm / (found + 1e-6))
        return found

    def _stand_in(self, scalar: nn.Parameter) -> nn.Parameter:
        """A replicated DTensor on the same memory."""
        whole = DTensor.from_local(scalar.detach(), self.mesh, [Replicate()], run_check=False)
        return nn.Parameter(whole, requires_grad=scalar.requires_grad)


def same_everywhere(tensors: Iterable[Tensor]) -> None:
    """The first process' values in all of them."""
    for tensor in tensors:
        values = tensor.detach().contiguous()
        dist.broadcast(values, 0)
        tensor.detach().copy_(values)


def whole_of(value: Any, *, keep: bool) -> Any:
    """Make state dicts whole, on the CPU, where `keep`; all ranks must take part. One tensor at a time is whole."""
    if isinstance(value, dict):
        return {name: whole_of(own, keep=keep) for name, own in cast(dict[Any, Any], value).items()}
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if keep else None


def _opened(module: nn.Module, arguments: Any, output: tuple[Tensor, LossReport] | ValueError) -> LossReport:
    """What the distiller returned or raised.

    FSDP2 has finished its forward pass then, also on the rank whose loss refused its input: else that rank alone would
    keep its parameters whole, and the others would wait for it at the next gathering.
    """
    if isinstance(output, ValueError):
        raise output
    return output[1]


def _exchange(optimizer: Optimizer, parts: Mapping[Tensor, nn.Parameter]) -> None:
    """Let an optimizer hold the parts in place of the whole, in the same order."""
    for group in optimizer.param_groups:
        group["params"] = [parts[whole] for whole in group["params"]]
    state: dict[Tensor, Any] = {
        parts[whole]: {slot: _like(parts[whole], slot, value) for slot, value in slots.items()}
        for whole, slots in optimizer.state.items()
    }
    optimizer.state.clear()
    optimizer.state.update(state)


def _like(parameter: nn.Parameter, slot: str, value: Any) -> Any:
    """An entry of the optimizer's state divided as its parameter is; its count of steps is the same for all."""
    if slot == "step" or not isinstance(value, Tensor):
        return value
    divided = cast(DTensor, parameter)
    return distribute_tensor(value.contiguous(), divided.device_mesh, divided.placements)
