"""The backplane of a node on its own: all in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from uuid import uuid4

import anyio
import anyio.lowlevel

from .backplane import Node, Page, Publication, Published
from .config import Limits, TopicRules
from .errors import RecoveryImpossible
from .message import Message, Position, Share
from .state.idempotency import RecentIds
from .state.presence import Member, Presence
from .state.registry import Registry
from .state.streams import Streams
from .topics import is_pattern

__all__ = ("MemoryBackplane", "MemoryLink")

SWEEP_S = 1.0  # guess: how late expired history may leave memory
# A topic that only patterns cover has nobody who says when it is no longer needed: its
# offsets go on if its messages are not further apart than this (guess).
PATTERN_LINGER_S = 60.0


class MemoryBackplane:
    """All in this process: fast, and gone with it.

    Several brokers of one process may share one; each gets what it subscribes to, and
    ``publish`` has handed the message to all of them when it returns. What it remembers
    is forgotten when the last of them has left.
    """

    def __init__(self) -> None:
        self._links: dict[MemoryLink, None] = {}
        self._forget(Limits())

    @asynccontextmanager
    async def connect(
        self, node: Node, limits: Limits
    ) -> AsyncGenerator[MemoryLink, None]:
        if not self._links:
            self._forget(limits)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sweep, name="broker: memory backplane sweep")
            link = MemoryLink(self, node)
            self._links[link] = None
            try:
                yield link
            finally:
                del self._links[link]
                link.forget()
                tasks.cancel_scope.cancel()

    @property
    def topic_count(self) -> int:
        """Topics that are remembered: subscribed to, or with history."""
        return len(self._streams)

    def _forget(self, limits: Limits) -> None:
        life = uuid4().hex[:8]
        epochs = (f"{life}-{number}" for number in count(1))
        self._nodes: Registry[Node] = Registry()
        self._streams = Streams(epochs, limits.max_topics)
        self._presence = Presence()
        self._recent = RecentIds(
            ttl_s=limits.idempotency_s, max_ids=limits.max_message_ids
        )

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_S)
            now = anyio.current_time()
            self._recent.expire(now)
            self._streams.expire(now, self._nodes.__contains__)

    def _publish(self, publication: Publication, now: float) -> Published:
        """Do it all in one step: nobody can join, leave or publish half way."""
        topic, rules = publication.topic, publication.rules
        message_id = publication.message_id
        if message_id is not None:
            known = self._recent.find(topic, message_id, now)
            if known is not None:
                return Published(known, duplicate=True)
        nodes = self._nodes.targets(topic)
        position = self._streams.open(topic).advance()
        message = Message(
            topic,
            publication.payload,
            position,
            publication.headers,
            share=Share(publication.size_bytes),
        )
        if rules.history_size:
            self._streams.keep(
                message,
                size=rules.history_size,
                max_bytes=rules.history_bytes,
                ttl_s=rules.history_ttl_s,
                now=now,
            )
        elif topic not in self._nodes:
            self._linger(topic, now, 0)
        if message_id is not None:
            self._recent.add(topic, message_id, position, now)
        for node in nodes:
            node.deliver(message, publication.exclude)
        return Published(position)

    def _linger(self, topic: str, now: float, ttl_s: float) -> None:
        """Keep a topic without subscribers of its own for a while, or not at all."""
        if not ttl_s and self._nodes.targets(topic):
            ttl_s = PATTERN_LINGER_S
        if ttl_s:
            self._streams.extend(topic, now + ttl_s)
        else:
            self._streams.forget(topic)


class MemoryLink:
    """One broker's view of a ``MemoryBackplane``; ``Link`` says what each promises."""

    def __init__(self, backplane: MemoryBackplane, node: Node) -> None:
        self._backplane = backplane
        self._node = node
        self._rules: dict[str, TopicRules] = {}  # of what this node subscribes to

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        await anyio.lowlevel.checkpoint()
        backplane = self._backplane
        position = None
        if not is_pattern(name):
            position = backplane._streams.open(name).position
        backplane._nodes.add(name, self._node)
        self._rules[name] = rules
        return position

    async def unsubscribe(self, name: str) -> None:
        await anyio.lowlevel.checkpoint()
        self._leave(name)

    def _leave(self, name: str) -> None:
        backplane = self._backplane
        rules = self._rules.pop(name, None)
        backplane._nodes.remove(name, self._node)
        if rules is None or is_pattern(name) or name in backplane._nodes:
            return
        ttl_s = rules.history_ttl_s if rules.history_size else 0
        backplane._linger(name, anyio.current_time(), ttl_s)

    async def publish(self, publication: Publication) -> Published:
        await anyio.lowlevel.checkpoint()
        return self._backplane._publish(publication, anyio.current_time())

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        await anyio.lowlevel.checkpoint()
        history = self._backplane._streams.find(topic)
        if history is None:
            if since is not None:
                raise RecoveryImpossible(f"nothing is remembered of {topic}")
            return Page([], None)
        messages = history.since(since, anyio.current_time())
        if messages is None:
            raise RecoveryImpossible(f"not all messages after {since} are kept")
        if reverse:
            messages.reverse()
        return Page(messages[:limit], history.position)

    async def clear_history(self, topic: str) -> None:
        await anyio.lowlevel.checkpoint()
        history = self._backplane._streams.find(topic)
        if history is not None:
            history.clear()

    async def tell(self, news: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        for link in self._backplane._links:
            if link is not self:
                link._node.hear(news)

    async def enter(self, topic: str, member: Member) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._backplane._presence.enter(topic, member)

    async def leave(self, topic: str, client_id: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._backplane._presence.leave(topic, client_id)

    async def members(self, topic: str) -> list[Member]:
        await anyio.lowlevel.checkpoint()
        return self._backplane._presence.members(topic)

    def forget(self) -> None:
        """Unsubscribe from everything: the node has left."""
        for name in list(self._rules):
            self._leave(name)
