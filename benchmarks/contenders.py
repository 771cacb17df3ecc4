"""Who fans out in one process: ours, anyio's streams, and other libraries.

Each is an async context manager that starts ``count`` subscribers, which report what
they get to a ``Tally``, and yields a function that publishes one message to all.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream

from broker import Broker

__all__ = ("CONTENDERS", "PAYLOAD_BYTES", "Contender", "Publish", "Tally")

PAYLOAD_BYTES = 128
PAYLOAD = "x" * PAYLOAD_BYTES
TOPIC = "chat"

Publish: TypeAlias = Callable[[], Awaitable[Any]]


class Tally:
    """Counts deliveries, and wakes the one who waits for all of them."""

    def __init__(self) -> None:
        self.delivered = 0
        self._expected = 0
        self._all = anyio.Event()

    def expect(self, deliveries: int) -> None:
        """Wait for so many more."""
        self._expected += deliveries
        self._all = anyio.Event()

    def add(self, deliveries: int) -> None:
        """Note that a subscriber has got some."""
        self.delivered += deliveries
        if self.delivered >= self._expected:
            self._all.set()

    async def wait(self) -> None:
        """Wait until all that is expected has come."""
        await self._all.wait()


Open: TypeAlias = Callable[[int, Tally], AbstractAsyncContextManager[Publish]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to fan out.

    Attributes:
        loops: event loops that it runs on.
        burst: messages of one burst.
        is_slow: one round takes a second or more, so it gets fewer.
    """

    name: str
    open: Open
    loops: tuple[str, ...] = ("asyncio", "trio")
    burst: int = 50
    is_slow: bool = False


@asynccontextmanager
async def ours_receive_all(count: int, tally: Tally) -> AsyncGenerator[Publish, None]:
    async def read(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with broker.subscribe(TOPIC) as messages:
            task_status.started()
            while True:
                got = 0
                for _ in await messages.receive_all():
                    got += 1
                tally.add(got)

    async with Broker() as broker, anyio.create_task_group() as tasks:
        for _ in range(count):
            await tasks.start(read)
        yield lambda: broker.publish(TOPIC, PAYLOAD)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def ours_async_for(count: int, tally: Tally) -> AsyncGenerator[Publish, None]:
    async def read(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with broker.subscribe(TOPIC) as messages:
            task_status.started()
            async for _ in messages:
                tally.add(1)

    async with Broker() as broker, anyio.create_task_group() as tasks:
        for _ in range(count):
            await tasks.start(read)
        yield lambda: broker.publish(TOPIC, PAYLOAD)
        tasks.cancel_scope.cancel()


async def read_drained(stream: MemoryObjectReceiveStream[str], tally: Tally) -> None:
    with stream:
        while True:
            await stream.receive()
            got = 1
            try:
                while True:
                    stream.receive_nowait()
                    got += 1
            except anyio.WouldBlock:
                tally.add(got)


async def read_each(stream: MemoryObjectReceiveStream[str], tally: Tally) -> None:
    with stream:
        while True:
            await stream.receive()
            tally.add(1)


def anyio_streams(
    read: Callable[[MemoryObjectReceiveStream[str], Tally], Coroutine[Any, Any, None]],
) -> Open:
    """A stream for each subscriber and a loop over them; no topics, no bounds."""

    @asynccontextmanager
    async def open_streams(count: int, tally: Tally) -> AsyncGenerator[Publish, None]:
        pairs = [anyio.create_memory_object_stream[str](math.inf) for _ in range(count)]
        senders = [sender for sender, _ in pairs]

        async def publish() -> None:
            await anyio.lowlevel.checkpoint()
            for sender in senders:
                sender.send_nowait(PAYLOAD)

        async with anyio.create_task_group() as tasks:
            for _, receiver in pairs:
                tasks.start_soon(read, receiver, tally)
            yield publish
            tasks.cancel_scope.cancel()
        for sender in senders:
            sender.close()

    return open_streams


@asynccontextmanager
async def broadcaster(count: int, tally: Tally) -> AsyncGenerator[Publish, None]:
    from broadcaster import Broadcast

    async def read(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with broadcast.subscribe(channel=TOPIC) as events:
            task_status.started()
            async for _ in events:  # type: ignore[union-attr] # annotated so there
                tally.add(1)

    async with Broadcast("memory://") as broadcast, anyio.create_task_group() as tasks:
        for _ in range(count):
            await tasks.start(read)
        yield lambda: broadcast.publish(TOPIC, PAYLOAD)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def litestar(count: int, tally: Tally) -> AsyncGenerator[Publish, None]:
    from litestar.channels import ChannelsPlugin
    from litestar.channels.backends.memory import MemoryChannelsBackend

    async def read(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with plugin.start_subscription(TOPIC) as subscriber:
            task_status.started()
            async for _ in subscriber.iter_events():
                tally.add(1)

    plugin = ChannelsPlugin(MemoryChannelsBackend(), channels=[TOPIC])
    async with plugin, anyio.create_task_group() as tasks:
        for _ in range(count):
            await tasks.start(read)
        yield lambda: plugin.wait_published(PAYLOAD, TOPIC)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def django_channels(count: int, tally: Tally) -> AsyncGenerator[Publish, None]:
    from channels.layers import InMemoryChannelLayer

    layer = InMemoryChannelLayer()

    async def read(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        channel = await layer.new_channel()
        await layer.group_add(TOPIC, channel)
        task_status.started()
        while True:
            await layer.receive(channel)
            tally.add(1)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            await tasks.start(read)
        yield lambda: layer.group_send(TOPIC, {"type": "chat", "text": PAYLOAD})
        tasks.cancel_scope.cancel()


CONTENDERS = (
    Contender("asgi-broker, receive_all", ours_receive_all),
    Contender("asgi-broker, async for", ours_async_for),
    Contender("anyio streams, drained", anyio_streams(read_drained)),
    Contender("anyio streams, one await each", anyio_streams(read_each)),
    Contender("encode/broadcaster", broadcaster, loops=("asyncio",)),
    Contender("Litestar channels", litestar, loops=("asyncio",)),
    Contender(
        "Django Channels", django_channels, loops=("asyncio",), burst=5, is_slow=True
    ),
)
