"""Processes that train beside each other: one for each GPU, or two on a CPU."""

import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from kdet.errors import WorkError

T = TypeVar("T")

_DEVICES = "CUDA_VISIBLE_DEVICES"


def processes(count: int, *, threads: int | None = None, device: str | None = None) -> ProcessPoolExecutor:
    """Start fresh processes.

    Args:
        count: of them.
        threads: of each; networks this small gain little from a second one, so two runs of one thread each beat one of
            two, and their times compare. None = torch's choice.
        device: the one GPU that they see.
    """
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_settle, initargs=(threads, device))


@contextmanager
def stopping_children() -> Generator[None]:
    """Turn Ctrl-C or SIGTERM here into SIGTERM for every child, so that a training saves its state before it ends.

    Raises:
        KeyboardInterrupt: by either.
    """

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()  # elsewhere Python takes no handlers
    before = signal.signal(signal.SIGTERM, interrupt) if ours else None
    try:
        yield
    except KeyboardInterrupt:
        for child in active_children():
            child.terminate()
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)


class Workers:
    """Runs each job in a process of its own, so that its peak of memory is its own, and as many at a time as fit."""

    def __init__(self) -> None:
        self._devices = _devices()
        self._threads = None if self._devices[0] else max(1, torch.get_num_threads() // len(self._devices))
        self._free: SimpleQueue[str | None] = SimpleQueue()
        for device in self._devices:
            self._free.put(device)
        self._waiting = ThreadPoolExecutor(len(self._devices))
        self._stopping = stopping_children()

    def __len__(self) -> int:
        return len(self._devices)

    def __enter__(self) -> Self:
        self._stopping.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.__exit__(kind, error, trace)
        self._waiting.shutdown(cancel_futures=True)

    def submit(self, job: Callable[..., T], /, *arguments: Any) -> Future[T]:
        """Run a picklable job as soon as a place is free; a process that dies is a WorkError."""
        return self._waiting.submit(self._run, job, *arguments)

    def _run(self, job: Callable[..., T], *arguments: Any) -> T:
        device = self._free.get()
        try:
            with processes(1, threads=self._threads, device=device) as pool:
                return pool.submit(job, *arguments).result()
        except BrokenProcessPool:
            raise WorkError(
                "its process was killed, perhaps for want of memory; what was saved is intact: "
                "give the same command again to go on, or lower train.batch_size"
            ) from None
        finally:
            self._free.put(device)


def _devices() -> Sequence[str | None]:
    """GPUs as CUDA names them; without one two places on the CPU, or one where it has a single core."""
    count = torch.cuda.device_count()
    if count:
        named = os.environ.get(_DEVICES)
        return named.split(",")[:count] if named else [str(number) for number in range(count)]
    return [None] * min(2, os.cpu_count() or 1)


def _settle(threads: int | None, device: str | None) -> None:
    """Settle a process at its start, before CUDA is. A Ctrl-C reaches it as the SIGTERM of who started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ[_DEVICES] = device
    if threads is not None:
        torch.set_num_threads(threads)
