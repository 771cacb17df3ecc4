"""Virtual time on both event loops: an hour of heartbeats costs a millisecond."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ("virtual_clock",)


class _JumpSelector(selectors.SelectSelector):
    """When nothing is ready, move time to the next timer instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self.now += timeout
        return []


class _JumpLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = _JumpSelector()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


def virtual_clock(backend: str) -> tuple[str, dict[str, Any]]:
    """Return what an ``anyio_backend`` fixture returns, with time that jumps.

    For tests in memory only: sockets and threads need the real clock.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
    """
    if backend == "asyncio":
        return backend, {"loop_factory": _JumpLoop}
    from trio.testing import MockClock

    return backend, {"clock": MockClock(autojump_threshold=0)}
