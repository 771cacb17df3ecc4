"""A backend of the user's own, as a backplane."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

from broker import (
    BackplaneError,
    BackplaneUnsupported,
    Limits,
    Message,
    Page,
    Position,
    RecoveryImpossible,
)
from broker.backplane import Node, Publication, Published
from broker.config import TopicRules
from broker.message import Share, size_of
from broker.state.presence import Member

from .backends import BroadcastBackend
from .channels import channel_of, topic_of

__all__ = ("PullBackplane", "PullLink")

logger = logging.getLogger("broker")

GRACE_S = 5.0  # as Limits.grace_s
_NOWHERE = Position("", 0)  # such a backend counts nothing


class PullBackplane:
    """Carries messages by way of a backend with ``next_published``.

    It keeps no history, no presence and no offsets.

    Args:
        channels: {topic: channel}, of those that are subscribed to; others are decoded.
    """

    def __init__(self, backend: BroadcastBackend, channels: Mapping[str, str]) -> None:
        self.backend = backend
        self._channels = channels
        self._subscribed: dict[str, str] = {}  # {topic: channel}, at the backend
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def connect(
        self, node: Node, limits: Limits
    ) -> AsyncGenerator[PullLink, None]:
        """Connect; see ``broker.Backplane``. What the backend raises comes out."""
        await self.backend.connect()
        self._subscribed.clear()
        # Backends with a single connection can do one thing at a time. A lock is of one
        # event loop, and this may be another one than last time.
        self._turn = anyio.Lock()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pump, node, name="broker: next_published")
                yield PullLink(self)
                tasks.cancel_scope.cancel()
        except BaseException:
            try:
                await self._disconnect()
            except Exception:  # the first error says more
                logger.exception("broadcast: disconnect has failed as well")
            raise
        await self._disconnect()

    async def publish(self, channel: str, message: Any) -> None:
        """Publish; the message may be whatever the backend takes."""
        async with self._turn:
            await self.backend.publish(channel, message)

    async def subscribe(self, topic: str) -> None:
        """Subscribe, and return when the backend says that it has."""
        channel = self.channel(topic)
        async with self._turn:
            await self.backend.subscribe(channel)
        self._subscribed[topic] = channel

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from one channel; its last subscriber may be long gone."""
        async with self._turn:
            await self.backend.unsubscribe(self._subscribed.pop(topic))

    def channel(self, topic: str) -> str:
        """Return the channel that a topic carries."""
        known = self._channels.get(topic)
        return channel_of(topic) if known is None else known

    async def _disconnect(self) -> None:
        with anyio.move_on_after(GRACE_S, shield=True):
            await self.backend.disconnect()

    async def _pump(self, node: Node) -> None:
        while True:
            event = await self.backend.next_published()
            size = _cost_of(event.message)
            message = Message(topic_of(event.channel), event.message, share=Share(size))
            node.deliver(message)


class PullLink:
    """One broker's view of a ``PullBackplane``; ``Link`` says what each promises.

    What the backend raises becomes a ``BackplaneError``, with the original as cause.
    """

    def __init__(self, backplane: PullBackplane) -> None:
        self._backplane = backplane

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        try:
            await self._backplane.subscribe(name)
        except Exception as error:
            raise BackplaneError(f"subscribe has failed: {error!r}") from error
        return None

    async def unsubscribe(self, name: str) -> None:
        try:
            await self._backplane.unsubscribe(name)
        except Exception as error:
            raise BackplaneError(f"unsubscribe has failed: {error!r}") from error

    async def publish(self, publication: Publication) -> Published:
        channel = self._backplane.channel(publication.topic)
        try:
            await self._backplane.publish(channel, publication.payload)
        except Exception as error:
            raise BackplaneError(f"publish has failed: {error!r}") from error
        return Published(_NOWHERE)

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        await anyio.lowlevel.checkpoint()
        if since is not None:
            raise RecoveryImpossible(
                "a backend written for broadcaster keeps no history"
            )
        return Page([], None)

    async def clear_history(self, topic: str) -> None:
        await anyio.lowlevel.checkpoint()

    async def tell(self, news: bytes) -> None:
        raise _unsupported("tells other nodes nothing")

    async def enter(self, topic: str, member: Member) -> bool:
        raise _unsupported("keeps no presence")

    async def leave(self, topic: str, client_id: str) -> bool:
        raise _unsupported("keeps no presence")

    async def members(self, topic: str) -> list[Member]:
        await anyio.lowlevel.checkpoint()
        return []


def _unsupported(problem: str) -> BackplaneUnsupported:
    return BackplaneUnsupported(f"a backend written for broadcaster {problem}")


def _cost_of(message: Any) -> int:
    """Return what a message costs a queue (bytes); of an object, what itself takes."""
    if isinstance(message, str | bytes):
        return size_of(message)
    return sys.getsizeof(message)
