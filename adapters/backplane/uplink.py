"""What keeps a node's link to an engine up: connect, go live, fail, try again."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar

import anyio

from broker.backplane import Node
from broker.errors import BackplaneError

__all__ = ("Uplink", "reason_of")

logger = logging.getLogger("broker.backplane")

# Between two tries to connect; doubled each time, and jittered, so that a server that
# comes back does not meet all nodes at once (guesses).
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0

Wire = TypeVar("Wire")


class Uplink(Generic[Wire]):
    """One node's connection to an engine, made again whenever it fails.

    Args:
        engine: its name, for messages.
        node: is told when the link goes down and comes up.
        errors: what says that a connection has failed or cannot be made. All else is a
            bug, and ends the link with the broker.

    Attributes:
        problem: why it is not up, or was not the last time.
    """

    def __init__(
        self, engine: str, node: Node, errors: tuple[type[Exception], ...]
    ) -> None:
        self.problem = "no answer"
        self._engine = engine
        self._node = node
        self._errors = errors
        self._ready = anyio.Event()  # up for the first time
        self._wire: Wire | None = None  # while all is live

    def live(self) -> Wire:
        """Return the connection.

        Raises:
            BackplaneError: it is down.
        """
        if self._wire is None:
            raise BackplaneError(f"the link to {self._engine} is down: {self.problem}")
        return self._wire

    def go_live(self, wire: Wire) -> None:
        """Say that all that is subscribed is delivered over this connection."""
        self._wire = wire
        if self._ready.is_set():
            self._node.up()
        self._ready.set()

    @asynccontextmanager
    async def kept(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Wire]],
        use: Callable[[Wire], Awaitable[None]],
        connect_s: float,
    ) -> AsyncGenerator[None, None]:
        """Keep the link up while the block runs, which begins when it is first live.

        Args:
            connect: makes one connection.
            use: calls ``go_live``, and raises when the connection fails.
            connect_s: longest wait for the first one (s, > 0).

        Raises:
            BackplaneError: it was not live within ``connect_s``.
        """
        async with anyio.create_task_group() as tasks:
            name = f"broker: link to {self._engine}"
            tasks.start_soon(self._keep, connect, use, name=name)
            with anyio.move_on_after(connect_s):
                await self._ready.wait()
            is_ready = self._ready.is_set()
            problem = self.problem  # a driver that is cancelled may make up another
            try:
                if is_ready:
                    yield
            finally:
                tasks.cancel_scope.cancel()
        if not is_ready:
            raise BackplaneError(
                f"{self._engine} was not reached within {connect_s:g} s: {problem}"
            )

    async def _keep(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Wire]],
        use: Callable[[Wire], Awaitable[None]],
    ) -> None:
        tries = 0
        while True:
            try:
                async with connect() as wire:
                    await use(wire)
            except* self._errors as group:
                self.problem = reason_of(group)
            if self._wire is not None:
                self._wire = None
                tries = 0
                self._node.down(self.problem)
            elif not tries:
                logger.warning(
                    "cannot connect to %s: %s; trying on", self._engine, self.problem
                )
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 10))
            tries += 1
            await anyio.sleep(pause_s * random.uniform(0.5, 1.0))


def reason_of(error: BaseException) -> str:
    """Return one line on why a link has failed, without secrets."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    reason = _line(error)
    while error.__cause__ is not None:  # drivers wrap what OpenSSL has to say
        error = error.__cause__
    cause = _line(error)
    return reason if cause in reason else f"{reason}: {cause}"


def _line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
