"""Where nats-py runs: on the host's event loop if it is asyncio, else on its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ("Bridge", "open_bridge")

P = ParamSpec("P")
T = TypeVar("T")

STOP_S = 5.0  # for the thread to end; its connections are closed by then (guess)


class Bridge(Protocol):
    """The way between the host's event loop and that of nats-py."""

    async def call(
        self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a coroutine function beside nats-py. Cancelled as it would be here."""
        ...

    def post(self, function: Callable[..., None], *args: object) -> int:
        """Run a function on the host's loop soon, in the order of the calls.

        Called from the loop of nats-py; never waits. The function must not raise.

        Returns:
            How many calls wait, with this one.
        """
        ...


class _Direct:
    """Both are the same loop."""

    async def call(
        self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await function(*args, **kwargs)

    def post(self, function: Callable[..., None], *args: object) -> int:
        function(*args)
        return 0


class _Thread:
    """nats-py has a thread of its own. Nothing here blocks the host's loop."""

    def __init__(self, portal: BlockingPortal, token: Any) -> None:
        self._portal = portal
        self._token = token
        self._posted: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    async def call(
        self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async def run() -> T:
            return await function(*args, **kwargs)

        return await self._portal.call_async(run)

    def post(self, function: Callable[..., None], *args: object) -> int:
        self._posted.append((function, args))
        count = len(self._posted)
        if count == 1:  # one wake-up for all that comes until it is run
            self._token.run_sync_soon(self._run)
        return count

    def _run(self) -> None:
        # Whoever appends to an empty queue wakes us again, so it is emptied.
        while self._posted:
            function, args = self._posted[0]
            function(*args)
            self._posted.popleft()


@asynccontextmanager
async def open_bridge() -> AsyncGenerator[Bridge, None]:
    """Have a way to nats-py for as long as the block runs."""
    token = anyio.lowlevel.current_token().native_token
    if isinstance(token, asyncio.AbstractEventLoop):
        yield _Direct()
        return
    # Starting and stopping wait for a thread, so they must not run on this loop.
    running = start_blocking_portal("asyncio", name="broker: nats")
    portal = await anyio.to_thread.run_sync(running.__enter__)
    try:
        yield _Thread(portal, token)
    finally:
        with anyio.move_on_after(STOP_S, shield=True):
            await anyio.to_thread.run_sync(
                running.__exit__, None, None, None, abandon_on_cancel=True
            )
