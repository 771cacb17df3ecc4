"""``Broadcast``: publish and subscribe as in broadcaster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import anyio.lowlevel

from broker import (
    Backplane,
    BackplaneError,
    Broker,
    BrokerClosed,
    Limits,
    Overflow,
    UsageError,
)

from .backends import BackplaneBackend, BroadcastBackend
from .channels import topic_of
from .pull import PullBackplane
from .service import Service
from .subscriber import Subscriber
from .urls import backplane_for

__all__ = ("Broadcast",)


class Broadcast:
    """What is published on a channel, to all who subscribe to it.

    It connects in ``async with``, or from ``connect()`` to ``disconnect()``, which may
    be called by different tasks of one event loop. Afterwards it may connect again, in
    another event loop as well.

    Args:
        url: ``memory://``, or another scheme that ``Broker`` knows.
        backend: instead of a URL: one of ``backends``, an object with the methods of
            ``BroadcastBackend``, or a ``broker.Backplane``.
        limits: every bound, such as how much may wait for one subscriber.

    Attributes:
        broker: what carries it; for sessions and statistics. A channel's topic there is
            ``topic_of(channel)``.

    Raises:
        AssertionError: neither ``url`` nor ``backend``, as there.
        UnsupportedBackend: there is no backplane for the URL.
        ModuleNotFoundError: its extra is not installed; says which.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        backend: BroadcastBackend | Backplane | None = None,
        limits: Limits | None = None,
    ) -> None:
        # {channel: one object for each subscriber}; tests written for broadcaster look
        # into it.
        self._subscribers: dict[str, set[object]] = {}
        self._channels: dict[str, str] = {}  # {topic: channel}, of those subscribed to
        self._pulled: PullBackplane | None = None
        if backend is None:
            if not url:
                # Not an assert statement: users catch it under -O as well.
                raise AssertionError("Either `url` or `backend` must be provided.")
            backplane = backplane_for(url)
        elif isinstance(backend, BackplaneBackend):
            backplane = backend.backplane
        elif isinstance(backend, BroadcastBackend) or hasattr(
            backend, "next_published"
        ):
            own = cast("BroadcastBackend", backend)
            backplane = self._pulled = PullBackplane(own, self._channels)
        else:
            backplane = backend
        self.broker = Broker(backplane, limits=limits)
        self._service: Service | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.disconnect()
        except BackplaneError:
            if error is None:  # else the block has more to say
                raise

    async def connect(self) -> None:
        """Connect, and keep connected in a task of the event loop's own.

        Raises:
            UsageError: it is connected already; nothing has changed.
            Exception: whatever the backend's ``connect`` raises.

        Cancellation: it is not connected.
        """
        if self._service is not None and not self._service.has_ended:
            raise UsageError("this Broadcast is connected already")
        self._service = service = Service(self.broker)
        try:
            await service.start()
        except BaseException:
            self._service = None
            raise

    async def disconnect(self) -> None:
        """Disconnect, and end all subscribers. Does nothing if it is not connected.

        Raises:
            BackplaneError: the backend had failed, or does so now; it is disconnected.

        Cancellation: it disconnects all the same, in its own time.
        """
        service = self._service
        if service is None:
            await anyio.lowlevel.checkpoint()
            return
        await service.stop()
        if self._service is service:
            self._service = None
        await _explain(service)

    async def publish(self, channel: str, message: Any) -> None:
        """Hand a message to all subscribers of a channel; does not wait for them.

        Args:
            message: text or bytes; a backend of your own may take more.

        Raises:
            UsageError: it was never connected; a message that is neither.
            MessageTooLarge: over ``Limits.max_message_bytes``; nothing was published.
            BrokerClosed: it is not connected any more; nothing was published.
            BackplaneError: the backend has failed; nothing was published.
            Exception: whatever the ``publish`` of a backend of your own raises.
        """
        topic = topic_of(channel)
        service = self._service
        if self._pulled is not None and self.broker.is_running:
            await self._pulled.publish(channel, message)
            return
        try:
            await self.broker.publish(topic, message)
        except BrokerClosed:
            await _explain(service)
            raise

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncGenerator[Subscriber, None]:
        """Receive a channel's events for as long as the block runs.

        Once the block has been entered, nothing published afterwards is missed.

        Raises:
            UsageError: it was never connected.
            BrokerClosed: it is not connected any more.
            BackplaneError: the backend could not subscribe, with its error as cause.

        Cancellation: nothing stays behind.
        """
        topic = topic_of(channel)
        service = self._service
        place = object()
        self._channels[topic] = channel
        self._subscribers.setdefault(channel, set()).add(place)
        try:
            async with AsyncExitStack() as stack:
                subscribing = self.broker.subscribe(topic, overflow=Overflow.DISCONNECT)
                try:
                    subscription = await stack.enter_async_context(subscribing)
                except BrokerClosed:
                    await _explain(service)
                    raise
                yield Subscriber(channel, subscription, partial(_explain, service))
        finally:
            places = self._subscribers[channel]
            places.discard(place)
            if not places:
                del self._subscribers[channel], self._channels[topic]


async def _explain(service: Service | None) -> None:
    """Wait until it has ended. Returns if that was asked for, else raises why."""
    if service is None:
        return
    await service.wait_ended()
    if service.error is not None:
        problem = f"the backend has failed: {service.error!r}"
        raise BackplaneError(problem) from service.error
