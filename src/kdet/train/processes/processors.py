"""Processors that this process may use, and how many processes load images beside it."""

import os
from pathlib import Path
from typing import Literal

MOST_LOADERS = 4
_CGROUPS = Path("/sys/fs/cgroup")


def loaders(asked: int | Literal["auto"], *, on_gpu: bool, processes: int) -> int:
    """Return the number of processes that load images.

    Args:
        asked: of the recipe. auto = none on the CPU, whose cores are busy with the step; beside a GPU, which would wait
            otherwise, one for each processor but the training's own, from one to four.
        on_gpu: whether a GPU trains.
        processes: that train on this machine and share its processors.
    """
    if asked != "auto":
        return asked
    return min(MOST_LOADERS, max(1, usable() // processes - 1)) if on_gpu else 0


def usable(cgroups: Path = _CGROUPS) -> int:
    """Count the processors: the machine's, this process's affinity or its container's quota, whichever is least."""
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return granted if quota is None else max(1, min(granted, int(quota)))


def _quota(cgroups: Path) -> float | None:
    """Processors that the control group may keep busy, as Linux counts them; None = all."""
    try:
        most, period = (cgroups / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):  # another system, or version 1 of control groups
        try:
            most, period = ((cgroups / f"cpu/cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period"))
        except OSError:
            return None
    return int(most) / int(period) if most.strip().isdigit() else None
