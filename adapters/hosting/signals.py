"""How a process is told to stop: by a signal, a second signal, or its supervisor."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import anyio

__all__ = ("STOP_SIGNALS", "Wait", "die_of_the_next", "signalled", "supervised")

logger = logging.getLogger("broker.hosting")

Wait: TypeAlias = Callable[[], Awaitable[None]]

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


@asynccontextmanager
async def signalled(at_once: Callable[[], None]) -> AsyncGenerator[Wait, None]:
    """Listen for SIGTERM and SIGINT; what is given waits for the first of them.

    A second one ends the process, for as long as it lives.

    Args:
        at_once: called in the signal handler, even if the event loop is blocked.
    """
    first: float | None = None

    def on_first() -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            at_once()
            die_of_the_next(first)

    with anyio.open_signal_receiver(*STOP_SIGNALS) as signals:
        # The receiver tells the event loop, which may be blocked.
        for each in STOP_SIGNALS:
            signal.signal(each, _both(on_first, signal.getsignal(each)))

        async def wait() -> None:
            await _next(signals)
            on_first()

        yield wait
    # The receiver has put back the handlers that were there before it.
    if first is not None:
        die_of_the_next(first)


@asynccontextmanager
async def supervised(order: Connection) -> AsyncGenerator[Wait, None]:
    """Listen for a supervisor; what is given waits until it says to stop, or ends.

    SIGTERM says so as well, once: whoever stops a group of processes signals the
    workers too, and the supervisor decides when they are to be killed.

    Args:
        order: becomes readable, or ends, when it is time to stop.
    """
    # Where trio's receiver goes back to, when this worker is stopping already.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:

        async def wait() -> None:
            async with anyio.create_task_group() as tasks:

                async def on_signal() -> None:
                    await _next(signals)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(on_signal, name="broker: SIGTERM")
                await anyio.wait_readable(order.fileno())
                tasks.cancel_scope.cancel()

        yield wait
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asyncio's puts back the default


async def _next(signals: AsyncIterator[signal.Signals]) -> None:
    async for each in signals:
        logger.info("%s: stopping", signal.Signals(each).name)
        break


def _both(call: Callable[[], None], then: Any) -> Callable[[int, Any], None]:
    """Return a handler that calls both; the first may change the handlers."""

    def on_signal(number: int, frame: Any) -> None:
        call()
        if callable(then):
            then(number, frame)

    return on_signal
