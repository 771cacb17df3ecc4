"""The bugs of encode/broadcaster that were seen on Redis, on a real Redis.

Numbered as in ``test_broadcaster_bugs``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from adapters.broadcaster import Broadcast, Event, topic_of
from adapters.redis import RedisBackplane
from adapters.redis.codec import Names
from broker import BackplaneError, Limits, SlowConsumer
from tests.backplanes.servers import HAS_REDIS, RedisServer

pytestmark = pytest.mark.skipif(not HAS_REDIS, reason="needs redis-server")

PATIENCE_S = 30.0
POLL_S = 0.02


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Engines need the real clock."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@asynccontextmanager
async def pair(redis: RedisServer) -> AsyncGenerator[tuple[Broadcast, Broadcast], None]:
    """Connect two processes' worth of them, with all deadlines around."""
    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(redis.url) as one, Broadcast(redis.url) as two:
            yield one, two


async def test_01_and_14_what_is_published_once_subscribed_is_heard(
    redis: RedisServer,
) -> None:
    """By another process too, at once, and by the first subscriber that there is."""
    async with pair(redis) as (one, two):
        for number in range(50):
            channel = str(number)
            async with one.subscribe(channel) as subscriber:
                await two.publish(channel, "hello")
                assert await subscriber.get() == Event(channel, "hello")


async def test_02_a_subscriber_that_does_not_read_is_told(redis: RedisServer) -> None:
    limit = 50
    limits = Limits(max_outbox_messages=limit)
    with anyio.fail_after(PATIENCE_S):
        async with (
            Broadcast(redis.url, limits=limits) as broadcast,
            broadcast.subscribe("a") as slow,
            broadcast.subscribe("a") as quick,
        ):
            for number in range(2 * limit):
                await broadcast.publish("a", str(number))
                assert (await quick.get()).message == str(number)
            for number in range(limit):
                assert (await slow.get()).message == str(number)
            with pytest.raises(SlowConsumer):
                await slow.get()


async def test_03_and_11_a_restart_is_told_and_survived(
    tmp_path: Path, anyio_backend_name: str
) -> None:
    """Who publishes hears of it at once; then it goes on, and the end is an end."""
    del anyio_backend_name
    with RedisServer(tmp_path) as server:
        async with pair(server) as (one, two):
            async with one.subscribe("a") as subscriber, one.subscribe("b") as other:
                await two.publish("a", "before")
                assert (await subscriber.get()).message == "before"
                server.kill()
                with pytest.raises(BackplaneError):
                    while True:
                        await one.publish("a", "nobody")
                await anyio.to_thread.run_sync(server.start)
                with pytest.raises(BackplaneError, match="missing"):
                    await subscriber.get()
                while True:
                    try:
                        await two.publish("a", "after")
                        break
                    except BackplaneError:
                        await anyio.sleep(POLL_S)
                assert (await subscriber.get()).message == "after"
                await one.disconnect()
                assert [event async for event in subscriber] == []
                with pytest.raises(BackplaneError, match="missing"):
                    await other.get()
                assert [event async for event in other] == []


async def test_05_and_06_all_at_once(redis: RedisServer) -> None:
    heard: list[Event] = []
    ready = anyio.Event()
    waiting = 0

    async def read(broadcast: Broadcast) -> None:
        nonlocal waiting
        async with broadcast.subscribe("together") as subscriber:
            waiting += 1
            if waiting == 5:
                ready.set()
            heard.append(await subscriber.get())
            heard.append(await subscriber.get())

    async with pair(redis) as (one, two), anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read, one)
        await ready.wait()
        for text in "xy":
            tasks.start_soon(two.publish, "together", text)
    assert sorted(event.message for event in heard) == list("xxxxxyyyyy")


async def test_08_and_09_what_others_write_and_nobody_subscribes(
    redis: RedisServer,
) -> None:
    """Neither bytes that are no text nor an idle tenth of a second end anything."""
    async with pair(redis) as (one, two):
        await anyio.sleep(0.15)
        async with one.subscribe("a") as subscriber, one.subscribe("b") as other:
            channel = Names("broker", 0).channel("a")
            assert redis.command("PUBLISH", channel, "\udcff\udcfe") == "1"
            await two.publish("a", b"\xff\xfe")
            await two.publish("b", "hello")
            assert (await subscriber.get()).message == b"\xff\xfe"
            assert (await other.get()).message == "hello"


async def test_10_nothing_grows_for_ever(redis: RedisServer) -> None:
    prefix = uuid4().hex
    backplane = RedisBackplane(redis.url, prefix=prefix)
    async with Broadcast(backend=backplane) as broadcast:
        for _ in range(20):
            await broadcast.publish("a", "hello")
    [key] = redis.command("KEYS", f"{prefix}:*").splitlines()
    assert redis.command("TYPE", key) == "hash"  # where it stands, and no message
    assert 0 < int(redis.command("PTTL", key)) <= 60_000


async def test_13_long_messages_and_any_channel(redis: RedisServer) -> None:
    async with pair(redis) as (one, two):
        message = "m" * one.broker.limits.max_message_bytes
        for channel in ("ä" * 500, "", "a b*>{c}?[d]"):
            async with one.subscribe(channel) as subscriber:
                await two.publish(channel, message)
                assert await subscriber.get() == Event(channel, message)


@pytest.mark.parametrize("ticks", range(0, 24, 6))
async def test_15_and_17_leaving_leaves_nothing_and_nobody_else(
    redis: RedisServer, ticks: int
) -> None:
    async def subscribe(broadcast: Broadcast) -> None:
        async with broadcast.subscribe("b") as subscriber:
            await subscriber.get()

    async with pair(redis) as (one, two):
        async with one.subscribe("a") as subscriber:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(subscribe, one)
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await two.publish("b", "nobody")
            await two.publish("a", "hello")
            assert (await subscriber.get()).message == "hello"
            assert list(one._subscribers) == ["a"]
            channel = Names("broker", 0).channel(topic_of("b"))
            while redis.command("PUBSUB", "NUMSUB", channel) != f"{channel}\n0":
                await anyio.sleep(POLL_S)
