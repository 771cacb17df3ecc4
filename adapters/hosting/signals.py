"""The second signal: end at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

__all__ = ("STOP_SIGNALS", "die_of_the_next")

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
