"""A context that one task enters and another leaves."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

from broker import BrokerClosed

__all__ = ("Service",)

logger = logging.getLogger("broker")


class Service:
    """Holds a context open in a task of its own, from ``start`` to ``stop``.

    A block that owns tasks must be left by the task that has entered it, and inside
    out. ``connect()`` and ``disconnect()``, which start-up and shutdown hooks call, are
    neither; so a task of the event loop's enters and leaves it for them. It has no
    parent that would see an error: it keeps that in ``error``, and logs it.

    Attributes:
        error: why it could not be entered or has ended; None as long as all is well.
    """

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self.error: Exception | None = None
        self._context = context
        self._scope = anyio.CancelScope()
        self._entered = anyio.Event()
        self._stopping = anyio.Event()
        self._ended = anyio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        """The context has been left."""
        return self._ended.is_set()

    async def start(self) -> None:
        """Enter the context.

        Raises:
            BrokerClosed: ``stop`` was called meanwhile.
            Exception: what entering it has raised.

        Cancellation: it is left again, in its own time.
        """
        self._task = _spawn(self._run)
        try:
            await self._entered.wait()
        except BaseException:
            self._ask_to_stop()
            raise
        if self.error is not None:
            raise self.error
        if self.has_ended:
            raise BrokerClosed("disconnected while it was connecting")

    async def stop(self) -> None:
        """Leave the context, and wait until that is done; the error is in ``error``.

        Cancellation: it is left all the same, in its own time.
        """
        self._ask_to_stop()
        await self.wait_ended()

    async def wait_ended(self) -> None:
        """Wait until the context has been left."""
        await self._ended.wait()

    def _ask_to_stop(self) -> None:
        self._stopping.set()
        if not self._entered.is_set():
            self._scope.cancel()  # who is being entered listens to nothing else

    async def _run(self) -> None:
        try:
            with self._scope:
                async with self._context:
                    self._entered.set()
                    await self._stopping.wait()
        except Exception as error:  # nobody is above to see it
            self.error = error
            if self._entered.is_set():
                logger.exception("broadcast: the backend has failed")
        finally:
            self._ended.set()
            self._entered.set()


def _spawn(run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None] | None:
    """Start a task that no other owns. It ends with the event loop at the latest."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        trio.lowlevel.spawn_system_task(run, name="broker: broadcast")
        return None
    # Kept by the caller: the event loop itself does not keep its tasks alive.
    return asyncio.create_task(run(), name="broker: broadcast")
