"""A backplane that fails on demand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from broker.backplane import Backplane, Link, Node, Page, Publication, Published
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError
from broker.memory import MemoryBackplane
from broker.message import Message, Position
from broker.state.presence import Member

__all__ = ("FaultyBackplane",)


class FaultyBackplane:
    """Another backplane, with faults in between.

    Set the attributes at any time. ``fail_next`` and ``calls`` leave out what nodes
    tell each other, which they do at times of their own.

    Args:
        inner: what really carries the messages; None for memory.

    Attributes:
        drop_next: so many of the next messages do not reach the nodes.
        repeat_next: so many of the next messages reach them twice.
        fail_next: so many of the next calls raise BackplaneError and do nothing.
        is_cut: every call raises BackplaneError, and no message arrives.
        delay_s: how long each call takes (s).
        calls: names of the calls so far, with their topic: ``"subscribe chat"``.
    """

    def __init__(self, inner: Backplane | None = None) -> None:
        self._inner = MemoryBackplane() if inner is None else inner
        self.drop_next = 0
        self.repeat_next = 0
        self.fail_next = 0
        self.is_cut = False
        self.delay_s = 0.0
        self.calls: list[str] = []

    @asynccontextmanager
    async def connect(self, node: Node, limits: Limits) -> AsyncGenerator[Link, None]:
        """Connect; see ``Backplane``."""
        async with self._inner.connect(_FaultyNode(self, node), limits) as link:
            yield _FaultyLink(self, link)

    async def fault(self, call: str) -> None:
        """Delay or fail one call, as told."""
        is_news = call == "tell"
        if not is_news:
            self.calls.append(call)
        if self.delay_s:
            await anyio.sleep(self.delay_s)
        else:
            await anyio.lowlevel.checkpoint()
        if self.is_cut:
            raise BackplaneError("the link is cut")
        if self.fail_next and not is_news:
            self.fail_next -= 1
            raise BackplaneError("told to fail")


class _FaultyNode:
    def __init__(self, faults: FaultyBackplane, node: Node) -> None:
        self._faults = faults
        self._node = node

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        faults = self._faults
        if faults.is_cut:
            return
        if faults.drop_next:
            faults.drop_next -= 1
            return
        self._node.deliver(message, exclude)
        if faults.repeat_next:
            faults.repeat_next -= 1
            self._node.deliver(message, exclude)

    def skip(self, topic: str, position: Position) -> None:
        self._node.skip(topic, position)

    def hear(self, news: bytes) -> None:
        if not self._faults.is_cut:
            self._node.hear(news)

    def down(self, reason: str) -> None:
        self._node.down(reason)

    def up(self) -> None:
        self._node.up()


class _FaultyLink:
    def __init__(self, faults: FaultyBackplane, link: Link) -> None:
        self._faults = faults
        self._link = link

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        await self._faults.fault(f"subscribe {name}")
        return await self._link.subscribe(name, rules)

    async def unsubscribe(self, name: str) -> None:
        await self._faults.fault(f"unsubscribe {name}")
        await self._link.unsubscribe(name)

    async def publish(self, publication: Publication) -> Published:
        await self._faults.fault(f"publish {publication.topic}")
        return await self._link.publish(publication)

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        await self._faults.fault(f"history {topic}")
        return await self._link.history(
            topic, since=since, limit=limit, reverse=reverse
        )

    async def clear_history(self, topic: str) -> None:
        await self._faults.fault(f"clear_history {topic}")
        await self._link.clear_history(topic)

    async def tell(self, news: bytes) -> None:
        await self._faults.fault("tell")
        await self._link.tell(news)

    async def enter(self, topic: str, member: Member) -> bool:
        await self._faults.fault(f"enter {topic}")
        return await self._link.enter(topic, member)

    async def leave(self, topic: str, client_id: str) -> bool:
        await self._faults.fault(f"leave {topic}")
        return await self._link.leave(topic, client_id)

    async def members(self, topic: str) -> list[Member]:
        await self._faults.fault(f"members {topic}")
        return await self._link.members(topic)
