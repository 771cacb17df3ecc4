"""The conformance suite itself: it passes what is right, and finds what is wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from broker.backplane import Link, Node, Publication, Published
from broker.config import Limits, TopicRules
from broker.errors import RecoveryImpossible
from broker.memory import MemoryBackplane
from broker.message import Message, Position
from broker.testing import FaultyBackplane
from broker.testing.conformance import check_backplane


class Wrong:
    """A link to a backplane in memory; those below break one promise each."""

    def __init__(self, link: Link, node: Node) -> None:
        self.link = link
        self.node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)


class PublishesTwice(Wrong):
    async def publish(self, publication: Publication) -> Published:
        return await self.link.publish(replace(publication, message_id=None))


class ForgetsExclude(Wrong):
    async def publish(self, publication: Publication) -> Published:
        return await self.link.publish(replace(publication, exclude=None))


class ForgetsHeaders(Wrong):
    async def publish(self, publication: Publication) -> Published:
        return await self.link.publish(replace(publication, headers={}))


class SendsText(Wrong):
    async def publish(self, publication: Publication) -> Published:
        payload = publication.payload
        if isinstance(payload, bytes):
            payload = payload.decode("latin-1")
        return await self.link.publish(replace(publication, payload=payload))


class PublishesAgainWhenCancelled(Wrong):
    async def publish(self, publication: Publication) -> Published:
        published = await self.link.publish(publication)
        try:
            for _ in range(5):  # cancelled in one of them, on any event loop
                await anyio.lowlevel.checkpoint()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.link.publish(publication)
            raise
        return published


class IgnoresLimit(Wrong):
    async def history(self, topic: str, **options: Any) -> Any:
        return await self.link.history(topic, **{**options, "limit": None})


class IgnoresReverse(Wrong):
    async def history(self, topic: str, **options: Any) -> Any:
        return await self.link.history(topic, **{**options, "reverse": False})


class ReturnsWhatItHas(Wrong):
    async def history(self, topic: str, **options: Any) -> Any:
        try:
            return await self.link.history(topic, **options)
        except RecoveryImpossible:
            return await self.link.history(topic, **{**options, "since": None})


class KeepsEverything(Wrong):
    async def publish(self, publication: Publication) -> Published:
        rules = publication.rules
        if rules.history_size:
            rules = replace(rules, history_size=1_000)
        return await self.link.publish(replace(publication, rules=rules))


class NeverClears(Wrong):
    async def clear_history(self, topic: str) -> None:
        await anyio.lowlevel.checkpoint()


class CannotMoveOn(Wrong):
    async def history(self, topic: str, **options: Any) -> Any:
        if topic.endswith(".resume"):
            raise RecoveryImpossible("not from another node")
        return await self.link.history(topic, **options)


class EntersAlone(Wrong):
    async def enter(self, topic: str, member: Any) -> bool:
        return await self.link.enter(f"{topic}.{id(self)}", member)

    async def leave(self, topic: str, client_id: str) -> bool:
        return await self.link.leave(f"{topic}.{id(self)}", client_id)

    async def members(self, topic: str) -> Any:
        return await self.link.members(f"{topic}.{id(self)}")


class CoversTooMuch(Wrong):
    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        wide = f"{name[:-1]}>" if name.endswith(".*") else name
        return await self.link.subscribe(wide, rules)


class NeverLeaves(Wrong):
    async def unsubscribe(self, name: str) -> None:
        await anyio.lowlevel.checkpoint()


class HearsItself(Wrong):
    async def tell(self, news: bytes) -> None:
        await self.link.tell(news)
        self.node.hear(news)


class ReversesNodes(Wrong):
    """Offsets are right, and one in two messages comes after the next one."""

    def __init__(self, link: Link, node: Node) -> None:
        super().__init__(link, node)
        late: list[tuple[Message, str | None]] = []
        deliver = node.deliver

        def swap(message: Message, exclude: str | None = None) -> None:
            if message.payload in ("a:3", "a:4", "a:5") and not late:
                late.append((message, exclude))
                return
            deliver(message, exclude)
            while late:
                deliver(*late.pop())

        node.deliver = swap  # type: ignore[method-assign] # a fault


@asynccontextmanager
async def connected(
    backplane: MemoryBackplane, wrong: type[Wrong], node: Node, limits: Limits
) -> AsyncGenerator[Link, None]:
    async with backplane.connect(node, limits) as link:
        yield cast("Link", wrong(link, node))


class WrongBackplane:
    """Shared by the nodes, with the same fault in each link."""

    def __init__(self, wrong: type[Wrong]) -> None:
        self._inner = MemoryBackplane()
        self._wrong = wrong

    def connect(self, node: Node, limits: Limits) -> Any:
        return connected(self._inner, self._wrong, node, limits)


async def test_memory_conforms() -> None:
    backplane = MemoryBackplane()
    await check_backplane(lambda: backplane)


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (PublishesTwice, "with the same id, on any node, does nothing"),
        (ForgetsExclude, "exclude travels"),
        (ForgetsHeaders, "headers arrive"),
        (SendsText, "payloads arrive"),
        (PublishesAgainWhenCancelled, "nothing is published twice"),
        (IgnoresLimit, "limit=3"),
        (IgnoresReverse, "reverse=True"),
        (ReturnsWhatItHas, "RecoveryImpossible is raised"),
        (KeepsEverything, "RecoveryImpossible is raised for what was trimmed"),
        (NeverClears, "clear_history forgets"),
        (CannotMoveOn, "another node can resume"),
        (EntersAlone, "members are those of all nodes"),
        (CoversTooMuch, "patterns bring what they cover"),
        (NeverLeaves, "a pattern can be left"),
        (HearsItself, "all other nodes hear"),
        (ReversesNodes, "in their order"),
    ],
)
async def test_a_broken_promise_is_found(wrong: type[Wrong], promise: str) -> None:
    backplane = WrongBackplane(wrong)
    with pytest.raises(AssertionError, match=promise):
        await check_backplane(lambda: backplane)


async def test_a_lost_message_is_found() -> None:
    backplane = FaultyBackplane()
    backplane.drop_next = 1
    with pytest.raises(AssertionError, match="offsets are dense"):
        await check_backplane(lambda: backplane)
