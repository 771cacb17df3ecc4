"""The second signal: end at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

__all__ = ("STOP_SIGNALS", "call_first", "die_of_the_next")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Ctrl-C in `make serve` comes twice, from the terminal and from make; `timeout` signals
# a process and its group (s; guess: people do not press twice in so little time).
SAME_S = 0.5


def die_of_the_next(first: float, before: Callable[[], None] = lambda: None) -> None:
    """Have the next signal that tells to stop end this process, as if not handled.

    Args:
        first: when the first one came (s, ``time.monotonic``); what comes within half a
            second of it counts as the same.
        before: called before the process ends.
    """

    def on_signal(number: int, _: object) -> None:
        if time.monotonic() - first < SAME_S:
            return
        before()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for each in STOP_SIGNALS:
        signal.signal(each, on_signal)


def call_first(call: Callable[[], None]) -> None:
    """Have signals that tell to stop call something before what handles them now.

    Args:
        call: in the main thread, between any two of its instructions; may be called
            again before it has returned, and may change the handlers.
    """
    for each in STOP_SIGNALS:
        signal.signal(each, _both(call, signal.getsignal(each)))


def _both(call: Callable[[], None], then: Any) -> Callable[[int, Any], None]:
    def on_signal(number: int, frame: Any) -> None:
        call()
        if callable(then):
            then(number, frame)

    return on_signal
