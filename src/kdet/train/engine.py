"""The only file that knows Accelerate: devices, processes, mixed precision, accumulation."""

import os
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import Optimizer

from kdet.errors import InputError

_PRECISIONS = {"fp32": "no", "bf16-mixed": "bf16", "fp16-mixed": "fp16"}


class Engine:
    """One process of a run: alone, or started by `torchrun` or `accelerate launch`."""

    def __init__(self, precision: str = "fp32") -> None:
        """Set up this process.

        Raises:
            InputError: fp16 without a GPU.
        """
        if precision == "fp16-mixed" and not torch.cuda.is_available():
            raise InputError("train.precision: fp16-mixed needs a GPU; use bf16-mixed or fp32 here")
        # Accelerate keeps the first precision of the process; several runs in one process may differ.
        AcceleratorState._reset_state()  # pyright: ignore[reportPrivateUsage]
        started = int(os.environ.get("WORLD_SIZE", "1"))
        on_cpu = started > 1 and not torch.cuda.is_available()  # it would run each process by itself otherwise
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision=_PRECISIONS[precision])
        self.device: torch.device = self.accelerator.device
        self.rank = int(self.accelerator.process_index)
        self.world = int(self.accelerator.num_processes)
        self.is_main = bool(self.accelerator.is_main_process)
        assert self.world == started, f"{started} processes were started, and this one is of a group of {self.world}"

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Move to the device and wrap for mixed precision and several processes."""
        prepared = self.accelerator.prepare(module, optimizer)
        return cast(tuple[nn.Module, Optimizer], prepared)

    @contextmanager
    def step(self, module: nn.Module, *, updates: bool) -> Generator[None]:
        """One batch of an optimizer step; only where it `updates` do the processes share gradients and weights move."""
        self.accelerator.sync_gradients = updates
        with nullcontext() if updates else self.accelerator.no_sync(module):
            yield

    def backward(self, loss: Tensor) -> None:
        """Gradients, scaled where fp16 needs it."""
        self.accelerator.backward(loss)

    def clip(self, module: nn.Module, norm: float | None) -> float:
        """Scale the gradient down to a norm, where one is wanted; returns the norm that it had."""
        if norm is not None:
            return float(cast(Tensor, self.accelerator.clip_grad_norm_(module.parameters(), norm)))
        return float(nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))

    @property
    def scales(self) -> bool:
        """Whether gradients are scaled for fp16."""
        return self.accelerator.scaler is not None

    def autocast(self) -> Any:
        """The run's precision for work outside the wrapped module, such as evaluation."""
        return self.accelerator.autocast()

    def gather(self, value: Any) -> list[Any]:
        """One picklable object of each rank, in rank order."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def highest(self, value: int) -> int:
        """The largest of all ranks' values, so that all of them decide alike."""
        if self.world == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def scaler_state(self) -> dict[str, float]:
        """Of fp16's gradient scaler; empty without one."""
        scaler = self.accelerator.scaler
        return {} if scaler is None else scaler.state_dict()

    def restore_scaler(self, state: dict[str, float]) -> None:
        """What `scaler_state` returned."""
        if state and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state)

    def wait(self) -> None:
        """Until every rank is here."""
        self.accelerator.wait_for_everyone()
