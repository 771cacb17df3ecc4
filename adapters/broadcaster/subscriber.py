"""One subscriber's events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

import anyio

from broker import BackplaneError, BrokerClosed, Gap, Subscription

from .event import Event

__all__ = ("Subscriber", "Unsubscribed")


class Unsubscribed(Exception):
    """The ``subscribe`` block has been left, or ``disconnect`` was called."""


class Subscriber:
    """The events of one channel, in order, with every loss told; one task reads it.

    Made by ``Broadcast.subscribe``. The loop over it ends when ``get`` would raise
    ``Unsubscribed``; every other end is an error.

    Args:
        explain: called when the broker has closed; returns if it was asked to, else
            raises why it was not.
    """

    def __init__(
        self,
        channel: str,
        subscription: Subscription,
        explain: Callable[[], Awaitable[None]],
    ) -> None:
        self._channel = channel
        self._subscription = subscription
        self._explain = explain

    async def get(self) -> Event:
        """Return the next event; what is queued comes before the end.

        Raises:
            Unsubscribed: it is over, as it should be.
            SlowConsumer: more waited here than its outbox holds (``Limits``).
            BackplaneError: the backend has failed, with its error as cause; or events
                of this channel are missing: those after them come with the next call.
            anyio.BusyResourceError: another task is reading.

        Cancellation: nothing is lost.
        """
        try:
            item = await self._subscription.receive()
        except anyio.ClosedResourceError:
            raise Unsubscribed from None
        except BrokerClosed:
            await self._explain()
            raise Unsubscribed from None
        if isinstance(item, Gap):
            # Of a stream that has begun anew, nobody knows how many.
            count = f"{item.missed} " if item.first else ""
            raise BackplaneError(f"{count}events of {self._channel!r} are missing")
        return Event(self._channel, item.payload)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.get()
        except Unsubscribed:
            raise StopAsyncIteration from None
