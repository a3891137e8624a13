"""The only file that knows Accelerate: devices, processes, mixed precision, accumulation."""

import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import Optimizer

from kdet.errors import InputError
from kdet.train.processes.processors import loaders

if TYPE_CHECKING:
    from kdet.train.processes.sharding import Sharding

_PRECISIONS = {"fp32": "no", "bf16-mixed": "bf16", "fp16-mixed": "fp16"}


class Engine:
    """One process of a run: alone, or started by `torchrun` or `accelerate launch`."""

    def __init__(self, precision: str = "fp32", *, shard: bool = False) -> None:
        """Set up this process.

        Args:
            precision: of the recipe.
            shard: divide what is trained over the processes; see `prepare` and `divide`.

        Raises:
            InputError: fp16 without a GPU, more processes than GPUs, or `shard` where it cannot be.
        """
        if precision == "fp16-mixed" and not torch.cuda.is_available():
            raise InputError("train.precision: fp16-mixed needs a GPU; use bf16-mixed or fp32 here")
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if shard:
            _require_shardable(precision, started)
        _require_a_gpu_each()
        # Accelerate keeps the first precision of the process; several runs in one process may differ.
        AcceleratorState._reset_state()  # pyright: ignore[reportPrivateUsage]
        on_cpu = started > 1 and not torch.cuda.is_available()  # it would run each process by itself otherwise
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision=_PRECISIONS[precision])
        self.device: torch.device = self.accelerator.device
        self.rank = int(self.accelerator.process_index)
        self.world = int(self.accelerator.num_processes)
        self.is_main = bool(self.accelerator.is_main_process)
        assert self.world == started, f"{started} processes were started, and this one is of a group of {self.world}"

        self.shards = shard
        self.sharding: Sharding | None = None
        """From `divide` on."""

    def loaders(self, asked: int | Literal["auto"]) -> int:
        """Processes that load images for this one: what the recipe asks for, or what suits this machine."""
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return loaders(asked, on_gpu=self.device.type == "cuda", processes=processes)

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Move to the device and wrap for mixed precision and several processes; with `shard`, `divide` comes later."""
        if self.shards:
            return self._prepare_to_divide(module, optimizer)
        prepared = self.accelerator.prepare(module, optimizer)
        return cast(tuple[nn.Module, Optimizer], prepared)

    def divide(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Leave each process its part of what `prepare` returned, in place, with `shard`; do nothing without it.

        Until then all is whole and plain, so that a saved state is loaded, and distillation is proven to act, with the
        optimizer of the run and without a thought of parts.
        """
        if self.shards:
            from kdet.train.processes.sharding import Entry, Sharding  # slow to import

            assert isinstance(module, Entry)
            self.sharding = Sharding(module, optimizer, self.device)

    def whole(self) -> AbstractContextManager[None]:
        """Parameters are whole meanwhile, outside the wrapped module's forward; all ranks must enter, to read only."""
        return nullcontext() if self.sharding is None else self.sharding.whole()

    @contextmanager
    def step(self, module: nn.Module, *, updates: bool) -> Generator[None]:
        """One batch of an optimizer step; only where it `updates` do the processes share gradients and weights move."""
        self.accelerator.sync_gradients = updates
        if self.sharding is not None:
            self.sharding.accumulate(updates=updates)
        with nullcontext() if updates or self.shards else self.accelerator.no_sync(module):
            yield

    def backward(self, loss: Tensor) -> None:
        """Gradients, scaled where fp16 needs it."""
        self.accelerator.backward(loss)
        if self.sharding is not None and self.accelerator.sync_gradients:
            self.sharding.share_scalars()

    def clip(self, modules: Sequence[nn.Module], norm: float | None) -> float:
        """Scale the gradient of each module down to a norm, where one is wanted; returns the norm that all had."""
        if norm is not None:
            self.accelerator.unscale_gradients()
        return math.hypot(*(self._clip(module, norm) for module in modules))

    def _clip(self, module: nn.Module, norm: float | None) -> float:
        if self.sharding is not None:
            return self.sharding.clip(module, norm)
        trained = [p for p in module.parameters() if p.grad is not None]
        found = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if norm is not None:
            nn.utils.clip_grads_with_norm_(trained, norm, found)
        return float(found)

    def gradients(self, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Those that `clip` clips, whole, by the parameter's name; all ranks must ask for all of them."""
        if self.sharding is not None:
            yield from ((name, gradient.full_tensor()) for name, gradient in self.sharding.gradients(module))
            return
        yield from ((name, p.grad) for name, p in module.named_parameters() if p.grad is not None)

    def leave_out(self, module: nn.Module) -> None:
        """Forget gradients of a step that the optimizer's `zero_grad` cannot know yet; all ranks must take part."""
        if self.sharding is not None:
            self.sharding.forget_gradients(module)

    def gathered(self, state: dict[str, Any], *, everywhere: bool = False) -> dict[str, Any]:
        """A state dict as if nothing were divided, for the main process or for all; all ranks must ask for it."""
        if self.sharding is None:
            return state
        from kdet.train.processes.sharding import whole_of

        return whole_of(state, keep=everywhere or self.is_main)

    def share_buffers(self, module: nn.Module) -> None:
        """Give all the first process' batch statistics with `shard`, as DDP does of itself; they are what is saved."""
        if self.sharding is not None:
            from kdet.train.processes.sharding import same_everywhere

            same_everywhere(module.buffers())

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

    def first(self, value: Any) -> Any:
        """Return for all the value of the first rank whose value is not None."""
        return next((own for own in self.gather(value) if own is not None), None)

    def highest(self, value: int) -> int:
        """The largest of all ranks' values, so that all of them decide alike."""
        if self.world == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def scaler_state(self) -> dict[str, float]:
        """Return the state of fp16's gradient scaler; empty without one."""
        scaler = self.accelerator.scaler
        return {} if scaler is None else scaler.state_dict()

    def restore_scaler(self, state: dict[str, float]) -> None:
        """What `scaler_state` returned."""
        if state and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state)

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.accelerator.wait_for_everyone()

    def _prepare_to_divide(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Prepare without DDP; all processes get the first one's weights, which DDP sees to of itself."""
        from kdet.train.processes.sharding import Entry, same_everywhere

        wrapped = cast(nn.Module, self.accelerator.prepare_model(module, evaluation_mode=True))
        same_everywhere([*module.parameters(), *module.buffers()])
        return Entry(wrapped), cast(Optimizer, self.accelerator.prepare_optimizer(optimizer))


def _require_a_gpu_each() -> None:
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if torch.cuda.is_available() and here > gpus:
        raise InputError(
            f"{here} processes were started on a machine with {gpus} GPU{'s' if gpus > 1 else ''}; start one for each "
            f"(--nproc-per-node {gpus}), or hide the GPU to use the processor (CUDA_VISIBLE_DEVICES= before torchrun)"
        )


def _require_shardable(precision: str, processes: int) -> None:
    if processes == 1:
        raise InputError(
            "train.shard: one process has nobody to divide with; start several with torchrun (see "
            "docs/guides/several-processes.md), or leave `shard` out"
        )
    if precision == "fp16-mixed":
        raise InputError(
            "train.shard: fp16-mixed is not supported with it; use bf16-mixed or fp32, or leave `shard` out"
        )
