"""Seventeen bugs of encode/broadcaster, each as a test that the drop-in passes.

They were found by running it. Some were seen on Redis, PostgreSQL or Kafka: those are
told here of a backend that misbehaves, or wants to be treated, in the same way.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from adapters.broadcaster import Broadcast, Event, Subscriber
from broker import (
    BackplaneError,
    BrokerClosed,
    MemoryBackplane,
    MessageTooLarge,
    SlowConsumer,
    UsageError,
)

from .broadcaster_backend import OwnBackend

PATIENCE_S = 60  # virtual: a hang fails at once


@pytest.fixture
def backend() -> OwnBackend:
    return OwnBackend()


async def test_01_the_first_subscriber_is_not_deaf(backend: OwnBackend) -> None:
    """It listened before the subscription was made: redis-py 8 takes a few turns."""
    backend.slow_ticks = 5
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            async with broadcast.subscribe("a") as subscriber:
                backend.bring("a", "hello")
                assert (await subscriber.get()).message == "hello"


@pytest.mark.parametrize("is_own", [False, True])
async def test_02_what_waits_for_a_subscriber_is_bounded(
    backend: OwnBackend, is_own: bool
) -> None:
    """200,000 unread events were held. The slow one alone is ended, and is told."""
    broadcast = Broadcast(backend=backend if is_own else MemoryBackplane())
    limit = broadcast.broker.limits.max_outbox_messages
    with anyio.fail_after(PATIENCE_S):
        async with (
            broadcast,
            broadcast.subscribe("a") as slow,
            broadcast.subscribe("a") as quick,
        ):
            for number in range(limit + 100):
                await broadcast.publish("a", number if is_own else str(number))
                await quick.get()
            assert broadcast.broker.statistics().waiting <= limit
            for _ in range(limit):
                await slow.get()
            with pytest.raises(SlowConsumer):
                await slow.get()
            with pytest.raises(SlowConsumer):
                async for _ in slow:
                    pass


async def test_03_a_lost_connection_reaches_every_subscriber(
    backend: OwnBackend,
) -> None:
    """The listener died, and everybody waited for ever; publishing went on."""
    ends: list[BaseException | None] = []

    async def read(subscriber: Subscriber) -> None:
        with pytest.raises(BackplaneError, match="restarting") as failed:
            async for _ in subscriber:
                pass
        ends.append(failed.value.__cause__)

    broadcast = Broadcast(backend=backend)
    lost = ConnectionError("the server is restarting")
    with anyio.fail_after(PATIENCE_S):
        await broadcast.connect()
        async with (
            broadcast.subscribe("a") as one,
            broadcast.subscribe("a") as two,
            broadcast.subscribe("b") as three,
        ):
            async with anyio.create_task_group() as tasks:
                for subscriber in (one, two, three):
                    tasks.start_soon(read, subscriber)
                await anyio.wait_all_tasks_blocked()
                backend.fail(lost)
            with pytest.raises(BackplaneError, match="restarting"):
                await broadcast.publish("a", "hello")
        with pytest.raises(BackplaneError, match="restarting"):
            await broadcast.disconnect()
    assert ends == [lost, lost, lost]


async def test_04_what_had_come_before_is_read_before_the_error(
    backend: OwnBackend,
) -> None:
    """A connection that was killed left its subscriber hanging."""
    broadcast = Broadcast(backend=backend)
    with anyio.fail_after(PATIENCE_S):
        await broadcast.connect()
        async with broadcast.subscribe("a") as subscriber:
            for number in range(3):
                await broadcast.publish("a", number)
            backend.fail(ConnectionError("terminated by administrator command"))
            for number in range(3):
                assert (await subscriber.get()).message == number
            for _ in range(2):
                with pytest.raises(BackplaneError, match="terminated"):
                    await subscriber.get()
        with pytest.raises(BackplaneError, match="terminated"):
            await broadcast.disconnect()


async def test_05_concurrent_publishes_share_one_connection(
    backend: OwnBackend,
) -> None:
    """Four of five failed: "another operation is in progress"."""

    async def come_and_go(broadcast: Broadcast, channel: str) -> None:
        async with broadcast.subscribe(channel):
            pass

    backend.slow_ticks = 3
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            async with broadcast.subscribe("a") as subscriber:
                async with anyio.create_task_group() as tasks:
                    for number in range(5):
                        tasks.start_soon(broadcast.publish, "a", number)
                        tasks.start_soon(come_and_go, broadcast, str(number))
                heard = [(await subscriber.get()).message for _ in range(5)]
    assert sorted(heard) == list(range(5))


async def test_06_concurrent_first_subscribers_all_hear(backend: OwnBackend) -> None:
    """One of three heard anything, and the others left with KeyError."""
    backend.slow_ticks = 3
    heard: list[Event] = []

    async def subscribe(broadcast: Broadcast) -> None:
        async with broadcast.subscribe("a") as subscriber:
            heard.append(await subscriber.get())

    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(subscribe, broadcast)
                await anyio.wait_all_tasks_blocked()
                await broadcast.publish("a", "hello")
    assert heard == [Event("a", "hello")] * 3
    assert backend.calls.count("subscribe a") == 1


async def test_07_subscribing_fails_with_its_own_error(backend: OwnBackend) -> None:
    """It surfaced as KeyError('a'). Others do not notice."""
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            async with broadcast.subscribe("b") as other:
                backend.failing["subscribe"] = PermissionError("not this one")
                with pytest.raises(BackplaneError, match="not this one") as failed:
                    async with broadcast.subscribe("a"):
                        pass
                causes: list[BaseException | None] = [failed.value]
                while causes[-1] is not None:
                    causes.append(causes[-1].__cause__)
                assert isinstance(causes[-2], PermissionError)
                assert list(broadcast._subscribers) == ["b"]
                backend.failing.clear()
                async with broadcast.subscribe("a") as subscriber:
                    for channel, heard in (("a", subscriber), ("b", other)):
                        await broadcast.publish(channel, "hello")
                        assert await heard.get() == Event(channel, "hello")


async def test_07_unsubscribing_may_fail_too(backend: OwnBackend) -> None:
    """The subscriber has left in any case; who comes next subscribes afresh."""
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            backend.failing["unsubscribe"] = TimeoutError("no answer")
            async with broadcast.subscribe("a"):
                pass
            await anyio.wait_all_tasks_blocked()
            async with broadcast.subscribe("a") as subscriber:
                await broadcast.publish("a", "hello")
                assert (await subscriber.get()).message == "hello"
    assert backend.calls.count("subscribe a") == 2


async def test_08_bytes_that_are_no_text_harm_nobody(backend: OwnBackend) -> None:
    """One such payload ended the listener of every channel, in silence."""
    for broadcast in (Broadcast("memory://"), Broadcast(backend=backend)):
        with anyio.fail_after(PATIENCE_S):
            async with broadcast, broadcast.subscribe("a") as subscriber:
                await broadcast.publish("a", b"\xff\xfe")
                await broadcast.publish("a", "hello")
                assert (await subscriber.get()).message == b"\xff\xfe"
                assert (await subscriber.get()).message == "hello"


async def test_08_a_backend_that_cannot_decode_says_so(backend: OwnBackend) -> None:
    with anyio.fail_after(PATIENCE_S), pytest.raises(BackplaneError) as failed:
        async with Broadcast(backend=backend) as broadcast:
            async with broadcast.subscribe("a") as subscriber:
                try:
                    b"\xff\xfe".decode()
                except UnicodeDecodeError as error:
                    backend.fail(error)
                await subscriber.get()
    assert isinstance(failed.value.__cause__, UnicodeDecodeError)


async def test_09_nobody_needs_to_be_subscribed(backend: OwnBackend) -> None:
    """A tenth of a second without subscribers, and nothing was delivered again."""
    for broadcast in (Broadcast("memory://"), Broadcast(backend=backend)):
        async with broadcast:
            await anyio.sleep(60)
            with anyio.fail_after(PATIENCE_S):
                async with broadcast.subscribe("a") as subscriber:
                    await broadcast.publish("a", "hello")
                    assert (await subscriber.get()).message == "hello"


async def test_10_nothing_grows_that_nobody_reads() -> None:
    """Streams had no greatest length."""
    backplane = MemoryBackplane()
    async with Broadcast(backend=backplane) as broadcast:
        for number in range(1_000):
            await broadcast.publish(f"room {number}", "hello")
            async with broadcast.subscribe(f"room {number}"):
                await broadcast.publish(f"room {number}", "hello")
        await anyio.wait_all_tasks_blocked()
        assert backplane.topic_count == 0
        assert not broadcast._channels
        statistics = broadcast.broker.statistics()
        assert (statistics.topics, statistics.queued_bytes) == (0, 0)


async def test_11_disconnecting_ends_the_loops_of_all(backend: OwnBackend) -> None:
    """They hung. What had come before is still read."""
    for broadcast in (Broadcast("memory://"), Broadcast(backend=backend)):
        with anyio.fail_after(PATIENCE_S):
            await broadcast.connect()
            async with (
                broadcast.subscribe("a") as waiting,
                broadcast.subscribe("b") as behind,
                anyio.create_task_group() as tasks,
            ):
                await broadcast.publish("b", "hello")
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(broadcast.disconnect)
                assert [event async for event in waiting] == []
                assert [event async for event in behind] == [Event("b", "hello")]
    assert backend.calls[-1] == "disconnect"


async def test_12_before_it_is_connected_it_says_so(backend: OwnBackend) -> None:
    """AttributeError, and of private names."""
    for broadcast in (Broadcast("memory://"), Broadcast(backend=backend)):
        await broadcast.disconnect()  # a shutdown hook runs though start-up has failed
        for error in (UsageError, BrokerClosed):
            with pytest.raises(error):
                await broadcast.publish("a", "hello")
            with pytest.raises(error):
                async with broadcast.subscribe("a"):
                    pass
            async with broadcast:
                pass
    assert not broadcast._subscribers


async def test_13_long_messages_and_names() -> None:
    """Over 8,000 and 63 bytes it failed, with the driver's words."""
    async with Broadcast("memory://") as broadcast:
        limit = broadcast.broker.limits.max_message_bytes
        channel, message = "ä" * 5_000, "m" * limit
        with anyio.fail_after(PATIENCE_S):
            async with broadcast.subscribe(channel) as subscriber:
                await broadcast.publish(channel, message)
                assert await subscriber.get() == Event(channel, message)
                with pytest.raises(MessageTooLarge):
                    await broadcast.publish(channel, message + "m")


@pytest.mark.parametrize("ticks", range(6))
async def test_14_subscribed_means_confirmed(backend: OwnBackend, ticks: int) -> None:
    """One event in 200 was lost when it was published right after subscribing."""
    backend.slow_ticks = ticks
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            for number in range(50):
                channel = str(number)
                async with broadcast.subscribe(channel) as subscriber:
                    assert channel in backend.subscribed
                    await broadcast.publish(channel, "hello")
                    assert await subscriber.get() == Event(channel, "hello")


async def test_15_leaving_one_channel_leaves_the_others(backend: OwnBackend) -> None:
    """Of Kafka it left all; and an empty message and none at all were the same."""
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(backend=backend) as broadcast:
            async with broadcast.subscribe("a") as subscriber:
                async with broadcast.subscribe("b"):
                    pass
                await anyio.wait_all_tasks_blocked()
                assert backend.subscribed == {"a"}
                backend.bring("a", "")
                backend.bring("a", None)
                assert [(await subscriber.get()).message for _ in "12"] == ["", None]


async def test_16_on_trio_as_on_asyncio(anyio_backend_name: str) -> None:
    """No running event loop: as every test here, this one runs on both."""
    async with Broadcast("memory://") as broadcast:
        assert broadcast.broker.is_running
    assert anyio_backend_name in ("asyncio", "trio")


async def test_17_a_subscriber_that_is_cancelled_leaves_nothing(
    backend: OwnBackend,
) -> None:
    async def subscribe(broadcast: Broadcast) -> None:
        async with broadcast.subscribe("a") as subscriber:
            await subscriber.get()

    for ticks in range(6):
        backend.slow_ticks = ticks
        with anyio.fail_after(PATIENCE_S):
            async with Broadcast(backend=backend) as broadcast:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(subscribe, broadcast)
                    for _ in range(3 * ticks):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
                await anyio.wait_all_tasks_blocked()
                assert not broadcast._subscribers
                assert not backend.subscribed
                assert broadcast.broker.statistics().subscriptions == 0


async def test_17_it_goes_on_after_the_last_has_left(backend: OwnBackend) -> None:
    for broadcast in (Broadcast("memory://"), Broadcast(backend=backend)):
        with anyio.fail_after(PATIENCE_S):
            async with broadcast:
                for _ in range(3):
                    async with broadcast.subscribe("a") as subscriber:
                        await broadcast.publish("a", "hello")
                        assert (await subscriber.get()).message == "hello"
                    await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.parametrize("leaves_it_open", [False, True])
def test_17_it_is_of_no_event_loop_until_it_connects(
    backend: OwnBackend, is_own: bool, leaves_it_open: bool
) -> None:
    """Made at import, it belonged to a loop that never ran."""
    backend.slow_ticks = 2
    broadcast = Broadcast(backend=backend if is_own else MemoryBackplane())

    async def use() -> None:
        await broadcast.connect()
        async with broadcast.subscribe("a") as subscriber:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):  # they wait for one another
                    tasks.start_soon(broadcast.publish, "a", "hello")
            for _ in range(2):
                assert (await subscriber.get()).message == "hello"
        if not leaves_it_open:
            await broadcast.disconnect()

    for name in ("asyncio", "trio", "asyncio"):
        anyio.run(use, backend=name)


def test_17_one_that_is_left_open_is_disconnected_with_the_event_loop(
    backend: OwnBackend,
) -> None:
    backend.slow_ticks = 3
    broadcast = Broadcast(backend=backend)
    for name in ("asyncio", "trio"):
        anyio.run(broadcast.connect, backend=name)
    assert backend.calls == ["connect", "disconnect"] * 2
