"""A few tasks that send for many clients."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

__all__ = ("MAX_RESTING", "Sender", "SenderPool")

# Tasks that are kept for when they are needed again (guess: on trio, where each send
# lets others run, about 30 take turns for 500 clients).
MAX_RESTING = 32
# Frames after which a task lets others run that need the processor, such as readers
# (guess: about 5 ms on asyncio, where a send does not wait).
TURNS = 200


class Sender(Protocol):
    """Who has something to send."""

    async def send_one(self, scope: anyio.CancelScope) -> bool:
        """Send one frame, if there is one; raises nothing but cancellation.

        Args:
            scope: cancel it to be waited for no longer; only until this has returned.

        Returns:
            False if that may have been done: then nobody else is sent to in the scope.
        """
        ...


class SenderPool:
    """Sends for each client in turn, and never has one wait for another.

    A send that does not wait, as on asyncio for as long as a socket's buffer takes what
    it is given, costs no switch of tasks: one task sends to everybody. As soon as one
    has to wait, another task goes on with the next client. So there are as many tasks
    as clients that are being waited for, a spare one, and a bounded number that rest.
    """

    def __init__(self) -> None:
        self._ready: deque[Sender] = deque()
        self._tasks: TaskGroup | None = None
        self._calls = anyio.Semaphore(0)  # of those that rest
        self._resting = 0
        # Where somebody waits for a turn, and everybody else for a client, one more is
        # on its way: so a spare is called before each send that leaves others waiting.
        self._is_called = False

    @property
    def resting(self) -> int:
        """Tasks that wait until they are needed again."""
        return self._resting

    @property
    def is_busy(self) -> bool:
        """Somebody waits for a turn."""
        return bool(self._ready)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[TaskGroup, None]:
        """Send for as long as the block runs; then nothing is sent any more."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._call()  # who was added before is not forgotten
            try:
                yield tasks
            finally:
                self._tasks = None
                self._ready.clear()

    def add(self, senders: Iterable[Sender]) -> None:
        """Send a frame of each, after who waits already. Never blocks."""
        self._ready.extend(senders)
        self._call()

    def _call(self) -> None:
        """Have one more task come, unless one is on its way or is not needed."""
        if self._is_called or not self._ready or self._tasks is None:
            return
        self._is_called = True
        if self._resting:
            self._resting -= 1
            self._calls.release()
        else:
            self._tasks.start_soon(self._work, name="broker: sender")

    async def _work(self) -> None:
        while True:
            self._is_called = False
            while self._ready:
                await self._send()
            if self._resting >= MAX_RESTING:
                return
            self._resting += 1
            await self._calls.acquire()

    async def _send(self) -> None:
        """Send until nobody waits, or the one is given up that is being sent to."""
        # One scope for many: to enter one takes a tenth of a delivery.
        with anyio.CancelScope() as scope:
            for _ in range(TURNS):
                if not self._ready:
                    return
                sender = self._ready.popleft()
                if self._ready and not self._is_called:
                    self._call()
                if not await sender.send_one(scope):
                    return
            await anyio.lowlevel.checkpoint()
