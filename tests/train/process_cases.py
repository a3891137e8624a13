"""Runs in two processes of this machine, and results that may differ by rounding."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing
from train_cases import distilled

from kdet.train import Recipe
from kdet.train.recipe.file import write_recipe
from patience import PATIENCE_S, wait_until


def close(found: Tensor, wanted: Tensor, name: str) -> None:
    """Up to rounding, of which sums over many cells make more where they nearly cancel."""
    atol = 1e-4 * float(wanted.abs().max()) + 1e-6 if wanted.numel() else 0.0
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=atol, msg=lambda text: f"{name}: {text}")


def started(recipe: Recipe, folder: Path, *options: str, processes: int = 2) -> subprocess.Popen[str]:
    """`kdet distill` in several processes; without `--` torchrun takes `--run` for an option of its own."""
    write_recipe(recipe, folder / "r.yaml")
    words = ["distill", str(folder / "r.yaml"), "--run", str(folder / "run"), *options]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "kdet.cli", "--", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=settings)


def torchrun(recipe: Recipe, folder: Path, *options: str, processes: int = 2) -> tuple[int, str]:
    """Exit status, and what was said."""
    process = started(recipe, folder, *options, processes=processes)
    _, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


def join(rank: int, port: int) -> None:
    """Make this process one of two as `torchrun` does, for an `Engine` to find."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    """For `join`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def leave(rank: int, folder: Path, found: dict[str, Any]) -> None:
    """The end of a process: what it found is for `found_by_both`."""
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # at the regular exit, after all is done, gloo's threads now and then abort the process


def found_by_both(process: Callable[..., None], folder: Path, *arguments: Any) -> list[dict[str, Any]]:
    """Run `process(rank, folder, *arguments)` twice beside each other; starting them takes most of the time."""
    both: Any = multiprocessing.spawn(process, (folder, *arguments), nprocs=2, join=False)
    try:
        wait_until(lambda: both.join(timeout=0.1), ended=lambda: False)
    finally:
        for own in both.processes:
            own.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def recipe(folder: Path, **more: Any) -> Recipe:
    """SGD, whose steps are proportional to the gradient; no batch statistics; an uneven number of images."""
    data = {"images": 9, "val_images": 5}
    train = {"optimizer": "sgd", "lr": 0.01, "batch_size": 1, "epochs": 1, "max_steps": 3, **more}
    return distilled(folder, ("structural", "rank_mimicking"), student={"norm": "group"}, data=data, train=train)
