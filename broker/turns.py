"""One at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

__all__ = ("Turns",)


class Turns:
    """A lock that takes memory only while somebody has it: 1 KB for each client."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: anyio.Lock | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Wait until nobody else is in such a block; first come, first served.

        Cancellation: the block is not entered.
        """
        if self._lock is None:
            self._lock = anyio.Lock()
        lock = self._lock
        try:
            async with lock:
                yield
        finally:
            # Who waits next has it already when it is given up.
            if not lock.locked() and self._lock is lock:
                self._lock = None
