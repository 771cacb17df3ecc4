"""A backend as users of broadcaster write them, that can be made to misbehave."""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
import anyio.lowlevel

from adapters.broadcaster import BroadcastBackend, Event

__all__ = ("OwnBackend", "SingleConnectionError")


class SingleConnectionError(Exception):
    """Two calls at once, on a connection that can do one at a time."""


class OwnBackend(BroadcastBackend):
    """Everything through one connection; an event of an unsubscribed channel is lost.

    Attributes:
        calls: made so far: ``"subscribe chat"``.
        slow_ticks: how long each call takes, in turns of the scheduler.
        failing: {name of a method: what it raises}.
        is_stuck: ``subscribe`` never returns.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.subscribed: set[str] = set()
        self.slow_ticks = 0
        self.failing: dict[str, Exception] = {}
        self.is_stuck = False
        self._is_busy = False
        self._events: deque[Event] = deque()
        self._arrived = anyio.Event()

    async def connect(self) -> None:
        await self._call("connect")

    async def disconnect(self) -> None:
        await self._call("disconnect")

    async def subscribe(self, channel: str) -> None:
        if self.is_stuck:
            await anyio.sleep_forever()
        await self._call("subscribe", channel)
        self.subscribed.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        await self._call("unsubscribe", channel)
        self.subscribed.remove(channel)

    async def publish(self, channel: str, message: Any) -> None:
        await self._call("publish", channel)
        self.bring(channel, message)

    async def next_published(self) -> Event:
        while not self._events:
            self._check("next_published")
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._events.popleft()

    def bring(self, channel: str, message: Any) -> None:
        """Receive an event from another process."""
        if channel in self.subscribed:
            self._events.append(Event(channel, message))
            self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Lose the connection on which events come."""
        self.failing["next_published"] = error
        self._arrived.set()

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise self.failing[name]

    async def _call(self, name: str, channel: str = "") -> None:
        if self._is_busy:
            raise SingleConnectionError(f"{name}: another operation is in progress")
        self._is_busy = True
        try:
            await anyio.lowlevel.checkpoint()
            for _ in range(self.slow_ticks):
                await anyio.lowlevel.checkpoint()
            self.calls.append(f"{name} {channel}".rstrip())
            self._check(name)
        finally:
            self._is_busy = False
