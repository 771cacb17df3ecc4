"""Cancel at every instant: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import pytest

from broker import (
    Broker,
    Frames,
    Item,
    Limits,
    MemoryBackplane,
    Overflow,
    TopicRules,
)
from broker.testing import memory_transport

from .helpers import payloads, take_all

pytestmark = pytest.mark.untraced

RULES = [
    TopicRules(pattern="room.>", history_size=5, presence=True, join_leave=True),
    TopicRules(pattern="block", overflow=Overflow.BLOCK),
]
TICKS = range(45)  # the whole scenario takes fewer scheduler ticks than this


async def life_of_a_session(broker: Broker, *, loses_nothing: bool = False) -> None:
    """All that a session does, in one go."""
    client, transport = memory_transport(loses_nothing=loses_nothing)
    try:
        async with broker.open_session(transport, Frames.TEXT, user="ann") as session:
            await client.send("hello")
            await session.subscribe("room.a")
            await session.receive()
            receipt = await session.publish("room.a", "one")
            await session.subscribe("room.b", since=receipt.position)
            await session.send("reply")
            await session.unsubscribe("room.a")
            await broker.history("room.a")
            await broker.presence("room.b")
    finally:
        client.close_all()


async def life_of_a_session_that_asks(broker: Broker) -> None:
    """The same where the handler's own task receives."""
    await life_of_a_session(broker, loses_nothing=True)


LIVES = [life_of_a_session, life_of_a_session_that_asks]


async def life_of_a_subscription(broker: Broker) -> None:
    """All that a subscription does, publishers that wait included."""
    receipt = await broker.publish("room.a", "one")
    async with (
        broker.subscribe("room.a", since=receipt.position) as sub,
        broker.subscribe("block", max_messages=1) as blocking,
        anyio.create_task_group() as tasks,
    ):
        await broker.publish("room.a", "two")
        await sub.receive()
        await broker.publish("block", "one")
        tasks.start_soon(broker.publish, "block", "two")
        await blocking.receive_all()
        await blocking.receive()
        await broker.publish("room.a", "three", message_id="3")
        await sub.receive_all()


async def assert_empty(broker: Broker, backplane: MemoryBackplane) -> None:
    """Nothing is left of sessions and subscriptions."""
    await anyio.wait_all_tasks_blocked()
    now = broker.statistics()
    assert (now.sessions, now.leaving, now.subscriptions) == (0, 0, 0)
    assert (now.topics, now.patterns, now.queued_bytes) == (0, 0, 0)
    for topic in ("room.a", "room.b"):
        assert await broker.presence(topic) == []
    core = broker._core()
    assert not core.owners
    assert not core.relay._interests
    assert not core.relay._changes
    assert len(core.relay.blocking) == 0
    await anyio.sleep(400)
    assert backplane.topic_count == 0


@pytest.mark.parametrize("ticks", TICKS)
@pytest.mark.parametrize("life", [*LIVES, life_of_a_subscription])
async def test_cancelled_at_every_tick_nothing_stays_behind(
    life: Any, ticks: int
) -> None:
    backplane = MemoryBackplane()
    async with Broker(backplane, rules=RULES, limits=Limits(grace_s=1)) as broker:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life, broker)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await assert_empty(broker, backplane)


@pytest.mark.parametrize("ticks", TICKS)
@pytest.mark.parametrize("life", [*LIVES, life_of_a_subscription])
async def test_cancelled_natively_as_hypercorn_does(
    life: Any, ticks: int, anyio_backend: Any
) -> None:
    """asyncio's `Task.cancel` is not a cancel scope; trio has no such thing."""
    if anyio_backend[0] == "trio":
        return
    backplane = MemoryBackplane()
    async with Broker(backplane, rules=RULES, limits=Limits(grace_s=1)) as broker:
        task = asyncio.ensure_future(life(broker))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
            raise asyncio.CancelledError  # it was quicker than the cancellation
        await assert_empty(broker, backplane)


@pytest.mark.parametrize("ticks", range(6))
async def test_a_cancelled_receive_loses_nothing(ticks: int) -> None:
    """A message that arrives in the instant of the cancellation is still there."""
    async with Broker() as broker, broker.subscribe("t") as sub:
        got: list[Item] = []

        async def reader() -> None:
            got.append(await sub.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await broker.publish("t", "a")
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await broker.publish("t", "b")
        assert payloads(got + take_all(sub)) == ["a", "b"]


@pytest.mark.parametrize("ticks", range(5))
@pytest.mark.parametrize("together", [False, True])
async def test_a_cancelled_receive_of_what_waits_loses_nothing(
    ticks: int, together: bool
) -> None:
    """Nothing has to be waited for, and still the cancellation may come first."""
    async with Broker() as broker, broker.subscribe("t") as sub:
        for text in ("a", "b"):
            await broker.publish("t", text)
        got: list[Item] = []

        async def reader() -> None:
            if together:
                got.extend(await sub.receive_all())
            else:
                got.append(await sub.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert payloads(got + take_all(sub)) == ["a", "b"]


@pytest.mark.parametrize("ticks", range(6))
async def test_a_natively_cancelled_receive_loses_nothing(
    ticks: int, anyio_backend: Any
) -> None:
    if anyio_backend[0] == "trio":
        return
    async with Broker() as broker, broker.subscribe("t") as sub:
        task = asyncio.ensure_future(sub.receive())
        await anyio.wait_all_tasks_blocked()
        await broker.publish("t", "a")
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        got: list[Item] = []
        with suppress(asyncio.CancelledError):
            got.append(await task)
        await broker.publish("t", "b")
        assert payloads([*got, await sub.receive(), *take_all(sub)])[:2] == ["a", "b"]


@pytest.mark.parametrize("ticks", range(8))
async def test_no_lost_wakeup(ticks: int) -> None:
    """Publish after 0, 1, 2 … ticks: one of them is the fatal instant."""
    async with Broker() as broker, broker.subscribe("t") as sub:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sub.receive)
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                await broker.publish("t", "a")


@pytest.mark.parametrize("ticks", range(8))
async def test_no_lost_wakeup_of_a_session(ticks: int) -> None:
    async with Broker() as broker:
        client, transport = memory_transport()
        async with broker.open_session(transport, Frames.TEXT) as session:
            await session.subscribe("t")
            with anyio.fail_after(60):
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                await broker.publish("t", "a")
                assert await client.receive() == "a"
                await client.send("b")
                assert await session.receive() == "b"
        client.close_all()
