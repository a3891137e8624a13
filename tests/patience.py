"""How long a test waits: half an hour for what must happen, after which something hangs. A slow machine is no fault."""

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

PATIENCE_S = 1800


def wait_until(happened: Callable[[], bool], ended: Callable[[], bool]) -> None:
    """Look every tenth of a second.

    Args:
        happened: what is waited for.
        ended: whether those who would bring it about are gone.
    """
    began = time.monotonic()
    while not happened():
        assert not ended(), "it ended before it came to that"
        assert time.monotonic() - began < PATIENCE_S, f"nothing happened for {PATIENCE_S} s"
        time.sleep(0.1)


@contextmanager
def deadline(seconds: int) -> Generator[None]:
    """TimeoutError after so many seconds of the processor's own time, and out of a wait that does not end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"at work for {seconds} s, or waiting for {PATIENCE_S} s")

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
