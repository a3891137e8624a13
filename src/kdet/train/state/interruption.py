"""SIGTERM and SIGINT while a run goes: the step in progress is finished, and what ends the run is its own code."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from kdet.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Takes both signals, but for those that the process was told to ignore; a second Ctrl-C ends it at once.

    Outside the main thread Python has no handlers, and nothing is taken.
    """

    def __init__(self) -> None:
        self.caught: str | None = None
        """Name of the signal that came."""
        self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            taken = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._take) for number in taken}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Generator[None]:
        """While everything is saved already, such as during an evaluation: a signal need not wait.

        Raises:
            Interrupted: by a signal.
        """
        self._at_once = True
        try:
            if self.caught:
                raise Interrupted(said(self.caught))
            yield
        finally:
            self._at_once = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.caught == "SIGINT" and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = signal.Signals(number).name
        if self._at_once:
            raise Interrupted(said(self.caught))


def said(name: str) -> str:
    """Return the line for whoever sent the signal."""
    return f"stopped by {name}; the same command goes on where it stands (train and distill: with --resume)"
