"""One node of the benchmark of backplanes: publishes, subscribes, and times both.

``python -m benchmarks.backplane_node WHO LOOP URL HEAR TELL``: commands are lines of
JSON on standard input, each is answered by one on standard output. HEAR and TELL are
sockets by which the subscribing node tells the publishing one that all has come.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

import anyio
import anyio.abc

from adapters.hosting.collector import tuned_collector
from broker import Broker, Gap, Limits, TopicRules

PAYLOAD_BYTES = 128
STAMP_BYTES = 20
KEPT = 100  # messages of history, where it is kept
PATIENCE_S = 30.0  # longest wait for a delivery; guess, several times what is needed

Heard: TypeAlias = Callable[[list[str]], None]


class Contender(Protocol):
    """A library, connected to its engine."""

    async def publish(self, topic: str, payload: str) -> object: ...

    async def read(
        self, topic: str, heard: Heard, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        """Be one subscriber, for ever, that hands on what has come."""
        ...


class Ours:
    """asgi-broker, its subscribers as unbounded as the other's: nothing is dropped."""

    LIMITS = Limits(
        max_outbox_messages=1_000_000,
        max_outbox_bytes=1_000_000_000,
        max_queued_bytes=1_000_000_000,
    )
    RULES = (TopicRules(pattern="kept.>", history_size=KEPT),)

    def __init__(self, broker: Broker) -> None:
        self.publish = broker.publish
        self._broker = broker

    async def read(
        self, topic: str, heard: Heard, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        async with self._broker.subscribe(topic) as messages:
            task_status.started()
            while True:
                payloads = []
                for item in await messages.receive_all():
                    if isinstance(item, Gap):
                        raise RuntimeError(f"lost: {item}")  # noqa: TRY004 # no type is wrong
                    payloads.append(str(item.payload))
                heard(payloads)


class Theirs:
    """encode/broadcaster."""

    def __init__(self, broadcast: Any, *, is_single: bool) -> None:
        self._broadcast = broadcast
        self.publish = self._one_by_one if is_single else broadcast.publish
        self._turn = asyncio.Lock()

    async def read(
        self, topic: str, heard: Heard, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        async with self._broadcast.subscribe(channel=topic) as events:
            task_status.started()
            async for event in events:
                heard([event.message])

    async def _one_by_one(self, topic: str, payload: str) -> None:
        # Its PostgreSQL backend fails if two publish at once.
        async with self._turn:
            await self._broadcast.publish(topic, payload)


@asynccontextmanager
async def connected(who: str, url: str) -> AsyncGenerator[Contender, None]:
    """Connect a contender while the block runs."""
    if who == "ours":
        async with Broker(url, rules=Ours.RULES, limits=Ours.LIMITS) as broker:
            yield Ours(broker)
        return
    from broadcaster import Broadcast

    async with Broadcast(url) as broadcast:
        yield Theirs(broadcast, is_single=url.startswith("postgres"))


class Tally:
    """What all subscribers of one topic have got."""

    def __init__(self, tell: socket.socket) -> None:
        self._tell = tell
        self._told = 0
        self._awaited = 0
        self._all = anyio.Event()
        self.every = 0  # deliveries, after each of which the publisher is told
        self.delivered = 0
        self.latencies_ns: list[int] = []

    def begin(self, every: int, awaited: int) -> None:
        """Get ready for a run; all of the last one has come."""
        self.every, self._told, self.delivered = every, 0, 0
        self._awaited, self._all = awaited, anyio.Event()
        self.latencies_ns = []

    def hear_first(self, payloads: list[str]) -> None:
        """Count what the first subscriber gets, and note how old it is."""
        now = time.perf_counter_ns()  # one clock for all processes of a machine
        self.latencies_ns += [now - int(each[:STAMP_BYTES]) for each in payloads]
        self.hear(payloads)

    def hear(self, payloads: list[str]) -> None:
        self.delivered += len(payloads)
        if self.every and self.delivered - self._told >= self.every:
            self._told += self.every
            self._tell.send(b".")
        if self._awaited and self.delivered >= self._awaited:
            self._all.set()

    async def wait(self, deliveries: int) -> None:
        """Wait until so many have come.

        Raises:
            TimeoutError: they did not.
            RuntimeError: more have come.
        """
        self._awaited = deliveries
        if self.delivered < deliveries:
            with anyio.fail_after(PATIENCE_S):
                await self._all.wait()
        if self.delivered != deliveries:
            raise RuntimeError(f"{self.delivered} deliveries instead of {deliveries}")


def stamped() -> str:
    return f"{time.perf_counter_ns():0{STAMP_BYTES}d}".ljust(PAYLOAD_BYTES, "x")


class Node:
    """What the commands do."""

    def __init__(
        self,
        contender: Contender,
        tasks: anyio.abc.TaskGroup,
        hear: socket.socket,
        tell: socket.socket,
    ) -> None:
        self._contender = contender
        self._tasks = tasks
        self._hear = hear
        self._tell = tell
        self._tallies: dict[str, Tally] = {}

    async def subscribe(self, topic: str, count: int) -> dict[str, Any]:
        """Add subscribers, each a task."""
        tally = self._tallies[topic] = Tally(self._tell)
        for number in range(count):
            heard = tally.hear if number else tally.hear_first
            await self._tasks.start(self._contender.read, topic, heard)
        return {}

    async def freeze(self) -> dict[str, Any]:
        """What is there now stays: the collector need not look at it."""
        gc.collect()
        gc.freeze()
        return {}

    async def begin(self, topic: str, every: int) -> dict[str, Any]:
        """Count anew; say so to the other node after ``every`` deliveries."""
        self._tallies[topic].begin(every, 0)
        return {}

    async def wait(self, topic: str, deliveries: int) -> dict[str, Any]:
        """Return how old messages were, when all of the run have come (ms)."""
        tally = self._tallies[topic]
        await tally.wait(deliveries)
        return shares(tally.latencies_ns)

    async def straight(
        self, topic: str, seconds: float, publishers: int
    ) -> dict[str, Any]:
        """Publish as fast as each publish returns, with so many at once."""
        publish, taken_ns, clock = self._contender.publish, [], time.perf_counter_ns
        start = clock()
        end = start + int(seconds * 1e9)

        async def publisher() -> None:
            before = clock()
            while before < end:
                await publish(topic, stamped())
                after = clock()
                taken_ns.append(after - before)
                before = after

        async with anyio.create_task_group() as tasks:
            for _ in range(publishers):
                tasks.start_soon(publisher)
        elapsed = (clock() - start) / 1e9
        return {"count": len(taken_ns), "seconds": elapsed, **shares(taken_ns)}

    async def rounds(self, topic: str, seconds: float, burst: int) -> dict[str, Any]:
        """Publish ``burst`` messages at once, and again when all have got them."""
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not count:
            if burst == 1:
                await self._contender.publish(topic, stamped())
            else:
                async with anyio.create_task_group() as tasks:
                    for _ in range(burst):
                        tasks.start_soon(self._contender.publish, topic, stamped())
            with anyio.fail_after(PATIENCE_S):
                await anyio.wait_readable(self._hear)
            self._hear.recv(1)
            count += burst
        return {"count": count, "seconds": elapsed}


def shares(times_ns: list[int]) -> dict[str, Any]:
    """Return the middle and the 99th percentile (ms)."""
    if not times_ns:
        return {"p50_ms": float("nan"), "p99_ms": float("nan")}
    ordered = sorted(times_ns)
    middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return {"p50_ms": middle / 1e6, "p99_ms": high / 1e6}


async def serve(who: str, url: str, hear: socket.socket, tell: socket.socket) -> None:
    """Connect, and do what is asked for until nobody asks any more."""
    async with connected(who, url) as contender, anyio.create_task_group() as tasks:
        node = Node(contender, tasks, hear, tell)
        commands: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            each.__name__: each
            for each in (
                node.subscribe,
                node.freeze,
                node.begin,
                node.wait,
                node.straight,
                node.rounds,
            )
        }
        print(json.dumps({}), flush=True)
        while True:
            # One command at a time: nothing of the next one is in the buffer.
            await anyio.wait_readable(sys.stdin)
            if not (line := sys.stdin.readline()):
                break
            asked = json.loads(line)
            answer = await commands[asked.pop("do")](**asked)
            print(json.dumps(answer), flush=True)
        tasks.cancel_scope.cancel()


def main() -> None:
    who, loop, url, hear, tell = sys.argv[1:]
    with (
        socket.socket(fileno=int(hear)) as hearing,
        socket.socket(fileno=int(tell)) as telling,
        tuned_collector(),
    ):
        hearing.setblocking(False)
        anyio.run(serve, who, url, hearing, telling, backend=loop)


if __name__ == "__main__":
    main()
