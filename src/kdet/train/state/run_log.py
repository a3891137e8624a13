"""What a run writes down while it goes: log.jsonl, TensorBoard, and lines for the person who waits."""

import json
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from multiprocessing import parent_process
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from torch.utils.tensorboard.writer import SummaryWriter

_QUIET_SECONDS = 10.0
"""Least seconds from one line to the next without a terminal."""


class Progress:
    """Rate and time left on standard error: one line that renews itself, or plain lines without a terminal."""

    def __init__(self, label: str, total: int, unit: str = "images", done: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = done
        self.started = self.shown = time.monotonic()
        # Workers share the terminal; a line that renews itself would overwrite the other's.
        self.terminal = sys.stderr.isatty() and parent_process() is None

    def advance(self, count: int, note: str = "") -> None:
        """`count` more are done."""
        self.done += count
        now = time.monotonic()
        if now - self.shown >= (0.2 if self.terminal else _QUIET_SECONDS):
            self.shown = now
            self._show(now, note)

    def _show(self, now: float, note: str) -> None:
        rate = (self.done - self.first) / max(1e-9, now - self.started)
        left = (self.total - self.done) / max(1e-9, rate)
        line = f"{self.label} {self.done}/{self.total} {self.unit}  {rate:.1f}/s  {_clock(left)} left  {note}"
        print(
            f"\r\033[K{line}" if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )

    def close(self) -> None:
        """Leave the terminal's line."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class RunLog:
    """Append-only records; a killed run may repeat steps, readers keep the last."""

    def __init__(self, folder: Path, *, active: bool = True) -> None:
        self.active = active
        self._folder = folder
        self._opened: list[TextIO | SummaryWriter] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._opened:
            opened.close()

    @cached_property
    def _file(self) -> TextIO:
        """Opened by the first record: a run that cannot go on leaves its folder as it is."""
        self._opened.append(file := (self._folder / "log.jsonl").open("a", encoding="utf-8"))
        return file

    @cached_property
    def _board(self) -> SummaryWriter:
        self._opened.append(board := SummaryWriter(str(self._folder / "tensorboard")))
        return board

    def step(
        self,
        *,
        step: int,
        epoch: int,
        lr: float,
        total: float,
        parts: Mapping[str, float],
        rate: float,
        gradients: Mapping[str, Mapping[str, float]],
        weights: Mapping[str, float],
        weights_over: int,
    ) -> None:
        """One record of training.

        `gradients` where they were measured; `weights` of the terms with `weight: auto`, and over how many batches.
        """
        record = {"kind": "step", "step": step, "epoch": epoch, "lr": lr, "total": total, "parts": dict(parts)}
        extra = {"gradients": dict(gradients), "weights": dict(weights), "weights_over": weights_over}
        self._write(record | {"images_per_second": round(rate, 2)} | {k: v for k, v in extra.items() if v})
        scalars = {f"loss/{name}": value for name, value in parts.items()}
        scalars |= {f"{kind}/{name}": value for name, pull in gradients.items() for kind, value in pull.items()}
        self._scalars(step, {"loss/total": total, "lr": lr} | scalars)

    def evaluation(self, *, step: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """One look at AP."""
        self._write({"kind": "eval", "step": step, "epoch": epoch, "metrics": dict(metrics)})
        self._scalars(step, {f"metrics/{k}": v for k, v in metrics.items() if isinstance(v, float)})

    def say(self, line: str) -> None:
        """A line for the person who waits, kept in the log too."""
        if self.active:
            print(line, file=sys.stderr, flush=True)
            self._write({"kind": "note", "text": line})

    def _write(self, record: Mapping[str, Any]) -> None:
        if self.active:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.active:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
