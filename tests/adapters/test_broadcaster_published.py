"""What encode/broadcaster's own tests are named after, on real engines.

The names are theirs, also those of tests that were proposed there and never merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import anyio
import pytest

from adapters.broadcaster import Broadcast, BroadcastBackend, Event, UnsupportedBackend
from adapters.broadcaster.backends import KafkaBackend, RedisBackend
from tests.backplanes.servers import HAS_REDIS, RedisServer

PATIENCE_S = 30.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Engines need the real clock."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """{scheme: URL}, of the engines that are installed."""
    urls = {"memory": "memory://"}
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    with redis if HAS_REDIS else nullcontext():
        if HAS_REDIS:
            urls["redis"] = redis.url
            urls["redis-stream"] = redis.url.replace("redis", "redis-stream", 1)
        yield urls


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    # Imported here: without its extra there is no server either.
    pytest.importorskip("psycopg")
    from adapters.postgres.address import Address
    from adapters.postgres.schema import migrate
    from tests.backplanes.postgres_server import POSTGRES, PostgresServer

    if POSTGRES is None:
        pytest.skip("needs postgres; scripts/install-engines")
    with PostgresServer() as server:
        migrate(Address(url=server.url, schema="broker", timeout_s=PATIENCE_S))
        yield server.url


@pytest.fixture(params=["memory", "redis", "redis-stream", "postgres"])
def url(request: pytest.FixtureRequest, engines: dict[str, str]) -> str:
    scheme: str = request.param
    if scheme == "postgres":
        given: str = request.getfixturevalue("postgres_url")
        return re.sub(r"^\w+://", "postgres://", given)
    if scheme not in engines:
        pytest.skip("needs redis-server; scripts/install-engines")
    return engines[scheme]


async def hear_hello(broadcast: Broadcast, channel: str = "chatroom") -> None:
    with anyio.fail_after(PATIENCE_S):
        async with broadcast.subscribe(channel) as subscriber:
            await broadcast.publish(channel, "hello")
            event = await subscriber.get()
    assert (event.channel, event.message) == (channel, "hello")


async def test_memory_and_redis_and_redis_stream_and_postgres(url: str) -> None:
    """``test_memory``, ``test_redis``, ``test_redis_stream``, ``test_postgres``."""
    async with Broadcast(url) as broadcast:
        await hear_hello(broadcast)
        await hear_hello(broadcast, "chatroom1")


async def test_resubscription(url: str) -> None:
    """``test_redis_resubscription``: after the last has left, and another came."""
    async with Broadcast(url) as broadcast:
        for _ in range(3):
            await hear_hello(broadcast)


async def test_concurrent_publishes_and_subscribes(url: str) -> None:
    """``test_concurrent``: what one task publishes comes in its order."""
    heard: dict[int, list[str]] = {}
    readers, count = 3, 20
    everybody = anyio.Event()

    async def read(broadcast: Broadcast, number: int) -> None:
        async with broadcast.subscribe("chatroom") as subscriber:
            heard[number] = []
            if len(heard) == readers:
                everybody.set()
            while len(heard[number]) < 2 * count:
                heard[number].append((await subscriber.get()).message)

    async def publish(broadcast: Broadcast, name: str) -> None:
        for number in range(count):
            await broadcast.publish("chatroom", f"{name}{number}")

    with anyio.fail_after(PATIENCE_S):
        async with Broadcast(url) as broadcast, anyio.create_task_group() as tasks:
            for number in range(readers):
                tasks.start_soon(read, broadcast, number)
            await everybody.wait()
            for name in "ab":
                tasks.start_soon(publish, broadcast, name)
    assert heard[0] == heard[1] == heard[2]
    for name in "ab":
        own = [message for message in heard[0] if message.startswith(name)]
        assert own == [f"{name}{number}" for number in range(count)]


async def test_unsubscribe(url: str) -> None:
    async with Broadcast(url) as broadcast:
        async with broadcast.subscribe("chatroom"):
            assert "chatroom" in broadcast._subscribers
        assert "chatroom" not in broadcast._subscribers


async def test_unsubscribe_w_exception(url: str) -> None:
    async with Broadcast(url) as broadcast:
        with pytest.raises(RuntimeError, match="in the block"):
            async with broadcast.subscribe("chatroom"):
                raise RuntimeError("in the block")
        assert "chatroom" not in broadcast._subscribers


class CustomBackend(BroadcastBackend):
    def __init__(self, url: str) -> None:
        self._channels: set[str] = set()
        self._send, self._receive = anyio.create_memory_object_stream[Event](9)

    async def connect(self) -> None:
        pass

    async def disconnect(self) -> None:
        self._send.close()
        self._receive.close()

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.remove(channel)

    async def publish(self, channel: str, message: Any) -> None:
        await self._send.send(Event(channel, message))

    async def next_published(self) -> Event:
        while True:
            event = await self._receive.receive()
            if event.channel in self._channels:
                return event


async def test_custom() -> None:
    async with Broadcast(backend=CustomBackend("")) as broadcast:
        await hear_hello(broadcast)


@pytest.mark.skipif(not HAS_REDIS, reason="needs redis-server")
async def test_redis_configured_client(engines: dict[str, str]) -> None:
    """The URL says it all; a connection that was made elsewhere is refused."""
    async with Broadcast(backend=RedisBackend(engines["redis"])) as broadcast:
        await hear_hello(broadcast)
    with pytest.raises(UnsupportedBackend, match="pass a URL"):
        RedisBackend(conn=object())


def test_redis_requires_url_or_connection() -> None:
    with pytest.raises(AssertionError, match="conn must be provided if url is not"):
        RedisBackend()


def test_kafka_and_kafka_multiple_urls() -> None:
    """There is none, and it says so before anything is connected."""
    for make in (
        lambda: Broadcast("kafka://localhost:9092"),
        lambda: KafkaBackend(["kafka://localhost:9092", "kafka://localhost:9093"]),
    ):
        with pytest.raises(ValueError, match="Unsupported backend: kafka"):
            make()


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="Unsupported backend"):
        Broadcast(url="unknown://")


def test_needs_url_or_backend() -> None:
    message = "Either `url` or `backend` must be provided."
    with pytest.raises(AssertionError, match=message):
        Broadcast()
