"""What a node makes of what its backplane says: holes, new lives, outages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from broker import (
    Broker,
    Gap,
    Item,
    Limits,
    MemoryBackplane,
    Message,
    Position,
    Subscription,
    TopicRules,
)
from broker.backplane import Node
from broker.memory import MemoryLink
from broker.testing import FaultyBackplane
from tests.runtime.client_helpers import serving
from tests.runtime.helpers import LONG_S, connected


class Hand(MemoryBackplane):
    """A backplane that says to its node what a test has it say.

    Attributes:
        node: the one that is connected.
    """

    node: Node

    @asynccontextmanager
    async def connect(
        self, node: Node, limits: Limits
    ) -> AsyncGenerator[MemoryLink, None]:
        self.node = node
        async with super().connect(node, limits) as link:
            yield link


async def take(subscription: Subscription, count: int) -> list[Item]:
    """Return so many items; a hang is a failure."""
    with anyio.fail_after(LONG_S):
        return [await subscription.receive() for _ in range(count)]


def message(epoch: str, offset: int, topic: str = "t") -> Message:
    return Message(topic, f"{epoch} {offset}", Position(epoch, offset))


async def test_a_new_life_is_told_with_its_first_message() -> None:
    """Even if that is its very first: of the old life nobody knows what is missing."""
    backplane = Hand()
    async with Broker(backplane) as broker, broker.subscribe("t") as subscription:
        first = (await broker.publish("t", "a")).position
        backplane.node.deliver(message("new", 1))
        backplane.node.deliver(message("newer", 4))
        assert await take(subscription, 5) == [
            Message("t", "a", first),
            Gap("t", "new", 0, 0, 0),
            message("new", 1),
            Gap("t", "newer", 0, 3, 3),
            message("newer", 4),
        ]


async def test_what_is_lost_for_good_is_told_at_once() -> None:
    backplane = Hand()
    async with Broker(backplane) as broker, broker.subscribe("t") as subscription:
        epoch = (await broker.publish("t", "a")).position.epoch
        await take(subscription, 1)
        node = backplane.node
        node.skip("t", Position(epoch, 1))  # it has that
        node.skip("t", Position(epoch, 4))
        node.skip("t", Position(epoch, 3))
        assert await take(subscription, 1) == [Gap("t", epoch, 2, 4, 3)]
        node.deliver(message(epoch, 4))
        node.deliver(message(epoch, 5))
        assert await take(subscription, 1) == [message(epoch, 5)]
        node.skip("t", Position("new", 0))
        assert await take(subscription, 1) == [Gap("t", "new", 0, 0, 0)]
        node.deliver(message("new", 1))
        assert await take(subscription, 1) == [message("new", 1)]
        node.skip("nobody's", Position("x", 9))
        assert broker.statistics().waiting == 0


async def test_who_listens_to_a_pattern_is_told_of_an_outage() -> None:
    """Once for each of its patterns, and in its place among what it gets."""
    backplane = Hand()
    async with Broker(backplane) as broker:
        async with (
            broker.subscribe("a.*", "b.>") as patterns,
            broker.subscribe("a.x") as topic,
        ):
            await broker.publish("a.x", "before")
            backplane.node.up()  # it was
            backplane.node.down("a test")
            backplane.node.up()
            await broker.publish("a.x", "after")
            got = await take(patterns, 4)
            assert [
                each.topic if isinstance(each, Gap) else each.payload for each in got
            ] == ["before", "a.*", "b.>", "after"]
            assert got[1:3] == [Gap("a.*", "", 0, 0, 0), Gap("b.>", "", 0, 0, 0)]
            heard = await take(topic, 2)
            assert not any(isinstance(each, Gap) for each in heard)


async def test_outages_are_told_to_who_asks() -> None:
    backplane = Hand()
    async with Broker(backplane) as broker:
        assert broker.statistics().is_backplane_up
        backplane.node.down("a test")
        assert not broker.statistics().is_backplane_up
        assert broker.statistics().totals.outages == 1
        backplane.node.up()
        assert broker.statistics().is_backplane_up


async def test_news_that_nobody_can_read_are_logged_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backplane = Hand()
    async with Broker(backplane):
        for _ in range(1_000):
            backplane.node.hear(b"rubbish")
    lines = [each for each in caplog.messages if "cannot do" in each]
    assert len(lines) == 10
    assert "(512 so far)" in lines[-1]


async def test_what_publishing_takes_is_seen() -> None:
    """And how late it comes back: in virtual time."""
    faults = FaultyBackplane()
    async with Broker(faults) as broker, broker.subscribe("t") as subscription:
        faults.delay_s = 2.0
        await broker.publish("t", "slow")
        totals = broker.statistics().totals
        assert totals.accepting.sum_s == pytest.approx(2.0)
        assert (sum(totals.lag.counts), totals.lag.sum_s) == (1, 0.0)
        await subscription.receive()
        faults.delay_s, faults.drop_next = 0.0, 1
        await broker.publish("t", "lost")
        assert sum(broker.statistics().totals.lag.counts) == 1
        await anyio.sleep(5.0)
        await broker.publish("t", "next")  # brings news of the hole
        totals = broker.statistics().totals
        assert totals.lag.sum_s == pytest.approx(5.0)


async def test_sessions_are_told_of_a_new_life() -> None:
    backplane = Hand()
    rules = [TopicRules(history_size=5)]
    async with Broker(backplane, rules=rules) as broker:
        async with connected(broker) as (client, session):
            await session.subscribe("t")
            async with serving(broker) as sdk:
                await sdk.call("subscribe", channel="t")
                backplane.node.skip("t", Position("new", 0))
                push = (await sdk.next())["push"]
                assert push["unsubscribe"]["code"] == 2500
            with anyio.fail_after(100):
                assert await client.receive() == (
                    '{"type":"gap","topic":"t","epoch":"new",'
                    '"first":0,"last":0,"missed":0}'
                )
