"""Publishing, subscribing and the life of a broker."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import pytest

from broker import (
    BackplaneError,
    Broker,
    BrokerClosed,
    Hooks,
    InvalidTopic,
    LimitExceeded,
    Limits,
    MemoryBackplane,
    Message,
    MessageTooLarge,
    Overflow,
    Position,
    RecoveryImpossible,
    SlowConsumer,
    TopicRules,
    UsageError,
)
from broker.backplane import Node
from broker.memory import MemoryLink
from broker.testing import FaultyBackplane

from .helpers import LONG_S, connected, payloads, pos, take_all

KEEP = [TopicRules(history_size=3, history_ttl_s=60)]


async def test_publish_and_subscribe() -> None:
    async with Broker() as broker, broker.subscribe("chat.lobby") as messages:
        receipt = await broker.publish("chat.lobby", "hello", headers={"from": "ann"})
        assert receipt.subscribers == 1
        async for message in messages:
            assert isinstance(message, Message)
            assert (message.topic, message.payload) == ("chat.lobby", "hello")
            assert message.position == receipt.position
            assert message.headers == {"from": "ann"}
            break


async def test_patterns_and_topics_give_a_message_once() -> None:
    async with Broker() as broker:
        async with broker.subscribe("a.b", "a.*", ">") as sub:
            for topic in ("a.b", "a.c", "a.b.c", "x"):
                await broker.publish(topic, topic)
            assert payloads(take_all(sub)) == ["a.b", "a.c", "a.b.c", "x"]
            assert list(sub.started) == ["a.b"]


async def test_message_id_publishes_once_within_its_window() -> None:
    limits = Limits(idempotency_s=10)
    async with Broker(limits=limits) as broker, broker.subscribe("t", "u") as sub:
        first = await broker.publish("t", "x", message_id="1")
        again = await broker.publish("t", "y", message_id="1")
        assert again.duplicate
        assert again.position == first.position
        assert again.subscribers == 0
        assert not (await broker.publish("u", "x", message_id="1")).duplicate
        await anyio.sleep(11)
        assert not (await broker.publish("t", "z", message_id="1")).duplicate
        assert payloads(take_all(sub)) == ["x", "x", "z"]
        assert broker.statistics().totals.duplicates == 1


@pytest.mark.parametrize(
    ("topic", "payload", "options", "error"),
    [
        ("", "x", {}, InvalidTopic),
        ("a.*", "x", {}, InvalidTopic),
        ("$presence.a", "x", {}, InvalidTopic),
        ("t", "x" * 65_537, {}, MessageTooLarge),
        ("t", "x" * 65_530, {"headers": {"name": "value"}}, MessageTooLarge),
        ("t", "x" * 65_530, {"headers": {"n": "é" * 3}}, MessageTooLarge),
        ("t", "x", {"headers": {"name": "\ud800"}}, UsageError),
        ("t", 1, {}, UsageError),
        ("t", "\ud800", {}, UsageError),
        ("t", "x", {"message_id": "x" * 256}, UsageError),
    ],
)
async def test_what_publish_refuses(
    topic: str, payload: Any, options: Any, error: type[Exception]
) -> None:
    async with Broker(rules=KEEP) as broker, broker.subscribe(">") as sub:
        with pytest.raises(error):
            await broker.publish(topic, payload, **options)
        assert sub.lag == 0
        await broker.publish("t", "x" * 65_536)


@pytest.mark.parametrize(
    ("topics", "options"),
    [
        ((), {}),
        (("a", "b"), {"since": Position("e", 1)}),
        (("a.*",), {"since": Position("e", 1)}),
        (("a", "b"), {"recent": 1}),
        (("a",), {"recent": -1}),
        (("a",), {"recent": 1, "since": Position("e", 1)}),
        (("a",), {"max_messages": 0}),
        (("a",), {"max_bytes": 10}),
        (("a", "b"), {}),
    ],
)
async def test_what_subscribe_refuses(topics: Any, options: Any) -> None:
    rules = [TopicRules(pattern="b", overflow=Overflow.CONFLATE)]
    async with Broker(rules=rules) as broker:
        with pytest.raises(UsageError):
            async with broker.subscribe(*topics, **options):
                pass
        assert broker.statistics().subscriptions == 0


async def test_history_pages() -> None:
    async with Broker(rules=KEEP) as broker:
        assert (await broker.history("t")).position is None
        receipts = [await broker.publish("t", str(number)) for number in range(5)]
        page = await broker.history("t")
        assert payloads(list(page.messages)) == ["2", "3", "4"]
        assert page.position == receipts[-1].position
        newest = await broker.history("t", limit=1, reverse=True)
        assert payloads(list(newest.messages)) == ["4"]
        after = await broker.history("t", since=receipts[2].position, limit=1)
        assert payloads(list(after.messages)) == ["3"]
        for lost in (receipts[0].position, Position("other", 1)):
            with pytest.raises(RecoveryImpossible):
                await broker.history("t", since=lost)
        with pytest.raises(RecoveryImpossible):
            await broker.history("never", since=lost)
        with pytest.raises(UsageError):
            await broker.history("t", limit=0)


async def test_history_is_bounded_in_bytes_and_says_so() -> None:
    """Large messages push out more than `history_size` would: told, never a part."""
    rules = [TopicRules(history_size=100, history_bytes=100)]
    async with Broker(rules=rules) as broker:
        receipts = [await broker.publish("t", "x" * 40) for _ in range(5)]
        assert len((await broker.history("t")).messages) == 2
        await broker.history("t", since=receipts[2].position)
        with pytest.raises(RecoveryImpossible):
            await broker.history("t", since=receipts[1].position)
        await broker.publish("t", "x" * 101)
        assert (await broker.history("t")).messages == []
    with pytest.raises(UsageError, match="history_bytes"):
        TopicRules(history_bytes=0)


async def test_history_expires_and_the_topic_with_it() -> None:
    backplane = MemoryBackplane()
    async with Broker(backplane, rules=KEEP) as broker:
        await broker.publish("t", "a")
        await anyio.sleep(40)
        await broker.publish("t", "b")
        await anyio.sleep(30)
        assert payloads(list((await broker.history("t")).messages)) == ["b"]
        await anyio.sleep(40)
        assert backplane.topic_count == 0


async def test_a_topic_lives_on_while_its_client_reconnects() -> None:
    """Without new messages, a client that was away for a while has missed nothing."""
    async with Broker(rules=KEEP) as broker:
        async with broker.subscribe("t") as sub:
            await broker.publish("t", "a")
            last = pos(await sub.receive())
            await anyio.sleep(200)
        await anyio.sleep(50)
        async with broker.subscribe("t", since=last) as sub:
            assert sub.recovered is True
        await anyio.sleep(70)
        async with broker.subscribe("t", since=last) as sub:
            assert sub.recovered is False


async def test_topics_without_history_are_forgotten_at_once() -> None:
    backplane = MemoryBackplane()
    async with Broker(backplane) as broker:
        await broker.publish("nobody.listens", "x")
        assert backplane.topic_count == 0
        async with broker.subscribe("t"):
            await broker.publish("t", "x")
            assert backplane.topic_count == 1
        await anyio.wait_all_tasks_blocked()
        assert backplane.topic_count == 0
        async with broker.subscribe("*"):
            first = await broker.publish("covered", "x")
            second = await broker.publish("covered", "x")
            assert second.position.offset == first.position.offset + 1
        await anyio.sleep(70)
        assert backplane.topic_count == 0


async def test_max_topics_bounds_memory() -> None:
    async with Broker(rules=KEEP, limits=Limits(max_topics=2)) as broker:
        await broker.publish("a", "x")
        await broker.publish("b", "x")
        with pytest.raises(UsageError, match="max_topics is 2"):
            await broker.publish("c", "x")
        await broker.publish("a", "y")


async def test_a_broker_that_was_not_entered_says_what_to_do() -> None:
    broker = Broker()
    with pytest.raises(UsageError, match="async with broker"):
        await broker.publish("t", "x")
    with pytest.raises(UsageError, match=r"lifespans: daphne and .* do not$"):
        broker.statistics()
    async with broker:
        assert broker.is_running
        with pytest.raises(RuntimeError, match="already been entered"):
            async with broker:
                pass
    assert not broker.is_running
    with pytest.raises(BrokerClosed):
        await broker.publish("t", "x")


async def test_a_broker_can_be_entered_again() -> None:
    broker = Broker(rules=KEEP)
    epochs = set()
    for _ in range(3):
        async with broker, broker.subscribe("t") as sub:
            assert (await broker.history("t")).messages == []
            epochs.add((await broker.publish("t", "x")).position.epoch)
            assert payloads(take_all(sub)) == ["x"]
    assert len(epochs) == 3


async def test_closing_ends_readers_aloud() -> None:
    broker = Broker()
    ends: list[str] = []

    async def reader() -> None:
        async with broker.subscribe("t") as sub:
            with pytest.raises(BrokerClosed):
                async for _ in sub:
                    pass
            ends.append("told")

    async with anyio.create_task_group() as tasks:
        async with broker:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
    assert ends == ["told"]


async def test_an_error_in_the_block_comes_out_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Broker():
            raise ZeroDivisionError


async def test_leaving_the_block_wakes_the_reader() -> None:
    async with Broker() as broker, anyio.create_task_group() as tasks:
        async with broker.subscribe("t") as sub:

            async def reader() -> None:
                with pytest.raises(anyio.ClosedResourceError, match="has been left"):
                    await sub.receive()

            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()


async def test_receive_all_takes_what_waits() -> None:
    async with Broker() as broker, broker.subscribe("t") as sub:
        for number in range(3):
            await broker.publish("t", str(number))
        assert (sub.lag, sub.queued_bytes) == (3, 3)
        assert payloads(await sub.receive_all()) == ["0", "1", "2"]
        with pytest.raises(anyio.WouldBlock):
            sub.receive_nowait()
        with anyio.move_on_after(10) as scope:
            await sub.receive_all()
        assert scope.cancelled_caught


async def test_a_subscription_over_the_budget_is_told() -> None:
    limits = Limits(max_queued_bytes=70_000)
    async with Broker(limits=limits) as broker, broker.subscribe("t") as sub:
        await broker.publish("t", "x" * 40_000)
        await broker.publish("t", "x" * 40_000)
        with pytest.raises(SlowConsumer, match="queue memory"):
            await sub.receive()
        assert broker.statistics().queued_bytes == 0


async def test_exclude_by_subscription() -> None:
    async with Broker() as broker:
        async with broker.subscribe("t") as one, broker.subscribe("t") as two:
            receipt = await broker.publish("t", "x", exclude=one)
            assert receipt.subscribers == 1
            assert (one.lag, two.lag) == (0, 1)


async def test_presence_and_its_news() -> None:
    rules = [
        TopicRules(pattern="room.*", presence=True, join_leave=True),
        TopicRules(pattern="quiet", presence=True),
    ]
    async with Broker(rules=rules) as broker:
        async with broker.subscribe("$presence.room.1") as news:
            async with connected(broker, user="ann", client_id="1") as (_, session):
                await session.subscribe("room.1")
                await session.subscribe("room.1")
                await session.subscribe("room.*", patterns=True)
                await session.subscribe("quiet")
                members = await broker.presence("room.1")
                assert [(m.client_id, m.user) for m in members] == [("1", "ann")]
                assert len(await broker.presence("quiet")) == 1
                assert await broker.presence("elsewhere") == []
                await session.unsubscribe("room.1")
                assert await broker.presence("room.1") == []
                await session.subscribe("room.1")
            assert await broker.presence("room.1") == []
            event = '{"event":"%s","topic":"room.1","client_id":"1","user":"ann"}'
            told = payloads(take_all(news))
            assert told == [event % word for word in ("join", "leave", "join", "leave")]


async def test_backplane_errors_reach_the_caller_and_leave_nothing() -> None:
    faults = FaultyBackplane()
    async with Broker(faults) as broker:
        faults.is_cut = True
        with pytest.raises(BackplaneError, match="cut"):
            await broker.publish("t", "x")
        with pytest.raises(BackplaneError, match="cut"):
            async with broker.subscribe("t"):
                pass
        assert broker.statistics().topics == 0
        faults.is_cut = False
        async with broker.subscribe("t") as sub:
            await broker.publish("t", "x")
            assert payloads(take_all(sub)) == ["x"]


async def test_concurrent_subscribers_share_one_backplane_subscription() -> None:
    faults = FaultyBackplane()
    faults.delay_s = 1
    async with Broker(faults) as broker:
        seen: list[Any] = []

        async def subscriber() -> None:
            async with broker.subscribe("t") as sub:
                seen.append(payloads([await sub.receive()]))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(subscriber)
            await anyio.sleep(5)
            await broker.publish("t", "x")
        assert seen == [["x"]] * 10
        await anyio.sleep(5)
        assert faults.calls == ["subscribe t", "publish t", "unsubscribe t"]


async def test_a_newcomer_while_the_topic_is_being_left_waits() -> None:
    faults = FaultyBackplane()
    async with Broker(faults) as broker:
        async with broker.subscribe("t"):
            faults.delay_s = 1
        await anyio.sleep(0.5)
        async with broker.subscribe("t") as sub:
            await broker.publish("t", "x")
            assert payloads(take_all(sub)) == ["x"]
        await anyio.sleep(5)
        words = [call.split()[0] for call in faults.calls]
        assert words == [
            "subscribe",
            "unsubscribe",
            "subscribe",
            "publish",
            "unsubscribe",
        ]


async def test_more_than_fits_while_history_is_read() -> None:
    """The publish that does not wait for us overruns the outbox: told, and gone."""
    faults = FaultyBackplane()
    async with Broker(faults, rules=[TopicRules(history_size=50)]) as broker:
        start = (await broker.publish("t", "0")).position
        async with broker.subscribe("t"):
            faults.delay_s = 5

            async def resumer() -> None:
                with pytest.raises(SlowConsumer):
                    async with broker.subscribe("t", since=start, max_messages=2):
                        pass

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(resumer)
                await anyio.wait_all_tasks_blocked()
                faults.delay_s = 0
                for number in range(5):
                    await broker.publish("t", str(number))
        assert broker.statistics().queued_bytes == 0


async def test_two_brokers_on_one_memory_backplane() -> None:
    backplane = MemoryBackplane()
    async with Broker(backplane) as one, Broker(backplane) as two:
        async with one.subscribe("t") as first, two.subscribe("t") as second:
            await one.publish("t", "a")
            await two.publish("t", "b")
            assert payloads(take_all(first)) == ["a", "b"]
            assert payloads(take_all(second)) == ["a", "b"]


async def test_recent_messages_first() -> None:
    async with Broker(rules=KEEP) as broker:
        for number in range(5):
            await broker.publish("t", str(number))
        async with broker.subscribe("t", recent=2) as sub:
            await broker.publish("t", "live")
            assert sub.recovered is None
            assert payloads(take_all(sub)) == ["3", "4", "live"]


async def test_a_node_that_leaves_a_shared_backplane_leaves_no_topics() -> None:
    backplane = MemoryBackplane()
    async with Broker(backplane):
        async with Broker(backplane) as leaving:
            opening = leaving.subscribe("t")
            await opening.__aenter__()
            assert backplane.topic_count == 1
        assert backplane.topic_count == 0
        await opening.__aexit__(None, None, None)


async def test_one_that_ends_while_it_subscribes_leaves_nothing() -> None:
    """Its first topic overruns it while the second is still being subscribed."""
    faults = FaultyBackplane()
    async with Broker(faults) as broker:
        async with anyio.create_task_group() as tasks:

            async def subscriber() -> None:
                with pytest.raises(SlowConsumer):
                    async with broker.subscribe("a", "b", max_messages=1):
                        pytest.fail("not reached")

            faults.delay_s = 5
            tasks.start_soon(subscriber)
            await anyio.sleep(7)  # "a" is live, and "b" not yet
            faults.delay_s = 0
            await broker.publish("a", "1")
            await broker.publish("a", "2")
        assert broker.statistics().topics == 0


async def test_statistics_are_a_copy() -> None:
    async with Broker(hooks=Hooks()) as broker, broker.subscribe("t", "u.*"):
        before = broker.statistics()
        await broker.publish("t", "x")
        after = broker.statistics()
        assert (before.totals.published, after.totals.published) == (0, 1)
        assert (after.topics, after.patterns, after.subscriptions) == (1, 1, 1)


async def test_reading_twice_at_once_is_refused() -> None:
    # The last two words are anyio's.
    busy = "^Another task is already reading this resource$"
    async with Broker() as broker, broker.subscribe("t") as sub:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sub.receive)
            await anyio.wait_all_tasks_blocked()
            for act in (sub.receive(), sub.receive_all()):
                with pytest.raises(anyio.BusyResourceError, match=busy):
                    await act
            with pytest.raises(anyio.BusyResourceError, match=busy):
                sub.receive_nowait()
            tasks.cancel_scope.cancel()


async def test_one_topic_too_many_is_refused_to_its_subscriber_alone() -> None:
    """Not to the node: the task that subscribes for everybody goes on."""
    async with Broker(limits=Limits(max_topics=1)) as broker:
        async with broker.subscribe("a") as sub:
            for _ in range(2):
                with pytest.raises(LimitExceeded, match="max_topics is 1"):
                    async with broker.subscribe("b"):
                        pytest.fail("not reached")
            await broker.publish("a", "still here")
            assert payloads(take_all(sub)) == ["still here"]
        async with broker.subscribe("b"):
            assert broker.statistics().topics == 1


async def test_a_client_that_subscribes_one_topic_too_many_ends_alone() -> None:
    async with Broker(limits=Limits(max_topics=1)) as broker:
        async with broker.subscribe("a"):
            async with connected(broker) as (client, session):
                await session.subscribe("b")
            assert client.close_code == 1008
            assert client.close_reason == "max_topics is 1, and all are in use"
        async with broker.subscribe("b"):
            assert broker.is_running


@pytest.mark.parametrize("fails", [False, True])
async def test_closing_ends_who_is_still_subscribing(fails: bool) -> None:
    """The backplane has not confirmed yet, and now never will."""
    faults = FaultyBackplane()
    faults.delay_s = 10 * LONG_S
    broker = Broker(faults)

    async def subscribe() -> None:
        with pytest.raises(BrokerClosed):
            async with broker.subscribe("a"):
                pass

    with anyio.fail_after(LONG_S):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(RuntimeError) if fails else nullcontext():
                async with broker:
                    tasks.start_soon(subscribe)
                    await anyio.wait_all_tasks_blocked()
                    if fails:
                        raise RuntimeError("the block has failed")


async def test_a_backplane_that_cannot_be_connected_leaves_nothing_open() -> None:
    class Unreachable(MemoryBackplane):
        @asynccontextmanager
        async def connect(
            self, node: Node, limits: Limits
        ) -> AsyncGenerator[MemoryLink, None]:
            raise BackplaneError("nobody answers")
            yield

    broker = Broker(Unreachable())
    with pytest.raises(BackplaneError, match="nobody answers"):
        async with broker:
            pass
    with warnings.catch_warnings():  # streams that were left open warn when they go
        warnings.simplefilter("error")
        gc.collect()
