"""One test and more for each guarantee of the README, in its order."""

from __future__ import annotations

import random

import anyio
import pytest

from broker import (
    Broker,
    EndKind,
    Gap,
    Limits,
    Overflow,
    SlowConsumer,
    TopicRules,
)
from broker.testing import FaultyBackplane

from .helpers import LONG_S, connected, payloads, pos, shape, take_all

DROPPING = [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST, Overflow.CONFLATE]


async def test_g1_every_subscriber_sees_one_order() -> None:
    """Many publishers at once: each keeps its own order, and all see the same."""
    async with (
        Broker() as broker,
        broker.subscribe("t") as one,
        broker.subscribe("t") as two,
        broker.subscribe("*") as three,
    ):

        async def publisher(name: int) -> None:
            for number in range(50):
                await broker.publish("t", f"{name}:{number}")

        async with anyio.create_task_group() as tasks:
            for name in range(8):
                tasks.start_soon(publisher, name)
        seen = payloads(take_all(one))
        assert len(seen) == 400
        assert payloads(take_all(two)) == seen
        assert payloads(take_all(three)) == seen
        for name in range(8):
            own = [text for text in seen if text.startswith(f"{name}:")]
            assert own == [f"{name}:{number}" for number in range(50)]


@pytest.mark.parametrize("overflow", DROPPING)
async def test_g2_every_loss_is_told(overflow: Overflow) -> None:
    """Offsets delivered and offsets told as missing are all there are, each once."""
    draw = random.Random(overflow.value)
    async with Broker() as broker:
        async with broker.subscribe("t", overflow=overflow, max_messages=3) as sub:
            items = []
            for number in range(200):
                await broker.publish("t", str(number))
                if draw.random() < 0.2:
                    items.append(sub.receive_nowait())
            items += take_all(sub)
            accounted: list[int] = []
            missed = 0
            for item in items:
                if isinstance(item, Gap):
                    accounted += range(item.first, item.last + 1)
                    missed += item.missed
                else:
                    accounted.append(pos(item).offset)
            assert accounted == list(range(1, 201))
            totals = broker.statistics().totals
            assert missed > 0
            assert totals.missed == totals.dropped[overflow] == sub.dropped == missed


async def test_g2_disconnect_ends_with_slow_consumer_after_what_was_queued() -> None:
    async with Broker() as broker, broker.subscribe("t", max_messages=2) as sub:
        for number in range(5):
            await broker.publish("t", str(number))
        assert payloads([await sub.receive(), await sub.receive()]) == ["0", "1"]
        with pytest.raises(SlowConsumer):
            await sub.receive()
        with pytest.raises(SlowConsumer):
            sub.receive_nowait()
        assert broker.statistics().topics == 0
        assert broker.statistics().totals.slow_consumers == 1


async def test_g2_a_hole_from_the_backplane_is_told() -> None:
    faults = FaultyBackplane()
    async with Broker(faults) as broker, broker.subscribe("t") as sub:
        await broker.publish("t", "a")
        faults.drop_next = 2
        for text in ("b", "c", "d"):
            await broker.publish("t", text)
        faults.repeat_next = 1
        await broker.publish("t", "e")
        assert shape(take_all(sub)) == ["a", (2, 3, 2), "d", "e"]
        totals = broker.statistics().totals
        assert (totals.missed, totals.duplicates) == (2, 1)


@pytest.mark.parametrize("ticks", range(8))
async def test_g3_live_on_entry(ticks: int) -> None:
    """Publish 0, 1, 2 … scheduler ticks after the entry: nothing is missed."""
    async with Broker() as broker:
        published: list[str] = []
        entered = False

        async def publisher() -> None:
            for number in range(12):
                if entered:
                    published.append(str(number))
                await broker.publish("t", str(number))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publisher)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            async with broker.subscribe("t") as sub:
                entered = True
                await anyio.wait_all_tasks_blocked()
                seen = payloads(take_all(sub))
        # What was begun before the entry may or may not be among the first.
        assert seen[len(seen) - len(published) :] == published


@pytest.mark.parametrize("ticks", range(10))
async def test_g3_cancelled_subscribe_leaves_nothing(ticks: int) -> None:
    backplane = FaultyBackplane()
    async with Broker(backplane, rules=[TopicRules(history_size=5)]) as broker:
        receipt = await broker.publish("t", "a")

        async def subscriber() -> None:
            async with broker.subscribe("t", since=receipt.position):
                await anyio.sleep(LONG_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscriber)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        statistics = broker.statistics()
        assert (statistics.topics, statistics.subscriptions) == (0, 0)
        calls = [call.split()[0] for call in backplane.calls]
        assert calls.count("subscribe") == calls.count("unsubscribe")


async def test_g4_a_stalled_session_delays_nobody_and_costs_its_bound() -> None:
    limits = Limits(max_outbox_bytes=70_000, grace_s=3)
    payload = "x" * 60_000
    async with (
        Broker(limits=limits) as broker,
        connected(broker, capacity=0) as (_, stalled),
        connected(broker) as (reader, healthy),
    ):
        await stalled.subscribe("t")
        await healthy.subscribe("t")
        for _ in range(20):
            await broker.publish("t", payload)
            with anyio.fail_after(0.5):
                assert await reader.receive() == payload
            assert stalled.queued_bytes <= 70_000
        assert stalled.ending is not None
        assert stalled.ending.kind is EndKind.SLOW_CONSUMER
        assert healthy.ending is None
        assert stalled.queued_bytes == 0


async def test_g4_the_budget_counts_a_shared_message_once() -> None:
    limits = Limits(max_queued_bytes=100_000)
    async with Broker(limits=limits) as broker:
        async with broker.subscribe("t") as one, broker.subscribe("t") as two:
            await broker.publish("t", "x" * 60_000)
            assert broker.statistics().queued_bytes == 60_000
            assert one.queued_bytes == two.queued_bytes == 60_000
            await one.receive()
            assert broker.statistics().queued_bytes == 60_000
            await two.receive()
            assert broker.statistics().queued_bytes == 0


async def test_g4_over_the_budget_the_largest_queue_ends_first() -> None:
    limits = Limits(max_queued_bytes=100_000)
    async with (
        Broker(limits=limits) as broker,
        connected(broker, capacity=0) as (_, large),
        connected(broker, capacity=0) as (_, small),
        broker.subscribe("small") as subscription,
    ):
        await large.subscribe("large")
        await small.subscribe("small")
        await broker.publish("small", "x" * 30_000)
        await broker.publish("small", "x" * 30_000)
        await broker.publish("large", "x" * 30_000)
        await broker.publish("large", "x" * 40_000)
        await broker.publish("large", "x" * 40_000)
        assert large.ending is not None
        assert large.ending.kind is EndKind.OVER_BUDGET
        assert large.ending.code == 1013
        assert small.ending is None
        assert subscription.lag == 2
        assert broker.statistics().queued_bytes <= 100_000


async def test_g5_resume_gets_all_without_gap_or_repeat() -> None:
    async with Broker(rules=[TopicRules(history_size=100)]) as broker:
        start = (await broker.publish("t", "0")).position
        for number in range(1, 10):
            await broker.publish("t", str(number))
        async with anyio.create_task_group() as tasks:

            async def publisher() -> None:
                for number in range(10, 40):
                    await broker.publish("t", str(number))

            tasks.start_soon(publisher)
            async with broker.subscribe("t", since=start) as sub:
                assert sub.recovered is True
                assert sub.started == {"t": start}
                await anyio.wait_all_tasks_blocked()
                seen = payloads(take_all(sub))
        assert seen == [str(number) for number in range(1, 40)]


@pytest.mark.parametrize("ticks", range(12))
async def test_g5_resume_while_published(ticks: int) -> None:
    """The publish lands before, while and after history is read."""
    backplane = FaultyBackplane()
    async with Broker(backplane, rules=[TopicRules(history_size=100)]) as broker:
        start = (await broker.publish("t", "a")).position
        await broker.publish("t", "b")
        seen: list[str] = []

        async def subscriber() -> None:
            async with broker.subscribe("t", since=start) as sub:
                await anyio.wait_all_tasks_blocked()
                seen.extend(payloads(take_all(sub)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscriber)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            await broker.publish("t", "c")
            await broker.publish("t", "d")
        assert seen == ["b", "c", "d"]


async def test_g5_never_a_part() -> None:
    """One message too few in history: told, and nothing but live messages."""
    async with Broker(rules=[TopicRules(history_size=3)]) as broker:
        start = (await broker.publish("t", "0")).position
        for number in range(1, 5):
            await broker.publish("t", str(number))
        async with broker.subscribe("t", since=start) as sub:
            assert sub.recovered is False
            assert sub.started["t"].offset == 5
            await broker.publish("t", "live")
            assert payloads(take_all(sub)) == ["live"]


async def test_g5_a_session_resumes_too() -> None:
    async with Broker(rules=[TopicRules(history_size=10)]) as broker:
        start = (await broker.publish("t", "a")).position
        await broker.publish("t", "b")
        async with connected(broker) as (client, session):
            attached = await session.subscribe("t", since=start)
            await broker.publish("t", "c")
            assert attached.recovered is True
            assert [await client.receive(), await client.receive()] == ["b", "c"]


async def test_g8_one_session_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A handler's bug, a bad frame and an oversized one: three ends, one survivor."""
    async with Broker() as broker, connected(broker) as (client, survivor):
        await survivor.subscribe("t")
        with pytest.raises(ZeroDivisionError):
            async with connected(broker) as (broken, _):
                broken.answers_close = True
                raise ZeroDivisionError
        assert broken.close_code == 1011
        assert broken.close_reason == "internal error"
        async with connected(broker) as (large, session):
            await large.send("x" * 65_537)
            ending = await session.wait_ended()
            assert (ending.kind, ending.code) == (EndKind.MESSAGE_TOO_LARGE, 1009)
        await broker.publish("t", "still here")
        assert await client.receive() == "still here"
        ended = broker.statistics().totals.ended
        assert ended[EndKind.INTERNAL_ERROR] == 1
        assert ended[EndKind.MESSAGE_TOO_LARGE] == 1
