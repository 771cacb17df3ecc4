"""Real faults of a real Redis: nothing may be lost in silence, nothing may come twice.

Three nodes listen, and all of them publish while the fault happens. Who gets no answer
publishes again with the same ``message_id``, so in the end all is acknowledged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from adapters.redis import RedisBackplane
from adapters.redis.following import PAGE
from adapters.redis.link import RedisLink
from broker import Broker
from broker.backplane import Publication, Published
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError
from broker.message import Gap, Message, Payload, Position
from tests.fault_proxy import FaultProxy

from .judge import PATIENCE_S, Watcher
from .servers import HAS_REDIS, RedisServer

KEPT = TopicRules(history_size=100_000)
LOST = TopicRules()
TOPICS = {"kept": KEPT, "lost": LOST}
ENOUGH = 40  # messages before the fault, and again after it
PACE_S = 0.002  # between two messages of one publisher
HANGS_S = 4.0  # how long a server that hangs does so


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one test's own."""
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def persistent(tmp_path: Path) -> Iterator[RedisServer]:
    """The same, and it forgets nothing when it is killed."""
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with RedisServer(tmp_path, persists=True) as server:
        yield server


def hasty(url: str, *, trust_persistence: bool = False) -> RedisBackplane:
    """Return a backplane that notices faults soon."""
    return RedisBackplane(
        url,
        timeout_s=1.0,
        heartbeat_s=0.3,
        compare_s=0.3,
        trust_persistence=trust_persistence,
    )


async def publish(
    link: RedisLink,
    topic: str,
    payload: str,
    rules: TopicRules = KEPT,
    message_id: str | None = None,
) -> Published:
    return await link.publish(
        Publication(
            topic=topic,
            payload=payload,
            size_bytes=len(payload),
            rules=rules,
            message_id=message_id,
        )
    )


@dataclass(slots=True)
class Traffic:
    """Three nodes that all listen and publish.

    Attributes:
        starts: {topic: where each node began}.
        acknowledged: {topic: {position: payload}}.
    """

    watchers: list[Watcher]
    links: list[RedisLink]
    starts: dict[str, list[Position]] = field(default_factory=dict)
    acknowledged: dict[str, dict[Position, Payload]] = field(default_factory=dict)
    count: int = 0
    _more: anyio.Event = field(default_factory=anyio.Event)
    _is_over: bool = False

    async def publisher(self, link: RedisLink, name: str) -> None:
        number = 0
        while not self._is_over:
            number += 1
            for topic in TOPICS:
                await self.insist(link, topic, f"{name}:{number}")
                self.count += 1
                self._more.set()
            await anyio.sleep(PACE_S)

    async def insist(self, link: RedisLink, topic: str, text: str) -> None:
        """Publish until it is acknowledged."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    done = await publish(link, topic, text, TOPICS[topic], text)
                except BackplaneError:
                    await anyio.sleep(PACE_S)
                    continue
                self.acknowledged.setdefault(topic, {})[done.position] = text
                return

    async def wait_more(self) -> None:
        """Wait until some more has been published."""
        enough = self.count + ENOUGH
        with anyio.fail_after(PATIENCE_S):
            while self.count < enough:
                self._more = anyio.Event()
                await self._more.wait()

    async def wait_back(self) -> None:
        """Wait until every node has been down, and all are up again."""
        for watcher in self.watchers:
            await watcher.wait(lambda w=watcher: w.states[-1:] == ["up"])  # type: ignore[misc] # bound

    async def finish(self) -> None:
        """Publish the last messages, and wait until every node has them."""
        self._is_over = True
        for topic in TOPICS:
            await self.insist(self.links[0], topic, "end")
        for watcher in self.watchers:
            for topic in TOPICS:
                await watcher.wait_payload(topic, "end")

    def judge(self) -> None:
        """Judge each node and topic, and compare the nodes."""
        for topic in TOPICS:
            seen: dict[Position | None, Payload] = {}
            for watcher, start in zip(self.watchers, self.starts[topic], strict=True):
                watcher.judge(topic, start, self.acknowledged[topic])
                for each in watcher.told[topic]:
                    if isinstance(each, Message):
                        first = seen.setdefault(each.position, each.payload)
                        assert first == each.payload, "nodes disagree"


@asynccontextmanager
async def traffic(make: Callable[[], RedisBackplane]) -> AsyncGenerator[Traffic, None]:
    """Let it flow; when the block is left, all has arrived and was judged."""
    watchers = [Watcher() for _ in range(3)]
    async with AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(make().connect(watcher, Limits()))
            for watcher in watchers
        ]
        flow = Traffic(watchers, links)
        for topic, rules in TOPICS.items():
            starts = [await link.subscribe(topic, rules) for link in links]
            flow.starts[topic] = [start for start in starts if start is not None]
        async with anyio.create_task_group() as tasks:
            for number, link in enumerate(links):
                tasks.start_soon(flow.publisher, link, f"p{number}")
            await flow.wait_more()
            yield flow
            await flow.wait_more()
            await flow.finish()
        flow.judge()


def skips(flow: Traffic, topic: str) -> list[int]:
    """Return offsets up to which something was said to be lost, over all nodes."""
    return [
        each
        for watcher in flow.watchers
        for each in watcher.shape(topic)
        if isinstance(each, int)
    ]


def epochs(flow: Traffic, topic: str) -> int:
    return len({position.epoch for position in flow.acknowledged[topic]})


async def test_nodes_agree_while_nothing_fails(server: RedisServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        pass
    assert not skips(flow, "kept")
    assert not skips(flow, "lost")
    assert not any(watcher.states for watcher in flow.watchers)


async def test_a_restart_begins_a_new_life_and_is_told(server: RedisServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        await anyio.to_thread.run_sync(server.restart)
        await flow.wait_back()
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert epochs(flow, "kept") == 2
    assert [watcher.states for watcher in flow.watchers] == [["down", "up"]] * 3


async def test_a_restart_from_disk_is_a_new_life_too(persistent: RedisServer) -> None:
    """Nobody but its operator knows whether its disk has all that was acknowledged."""
    async with traffic(lambda: hasty(persistent.url)) as flow:
        await anyio.to_thread.run_sync(persistent.restart)
        await flow.wait_back()
    assert len(skips(flow, "kept")) == 3
    assert epochs(flow, "kept") == 2


async def test_a_restart_from_a_disk_that_is_trusted_loses_nothing(
    persistent: RedisServer,
) -> None:
    def make() -> RedisBackplane:
        return hasty(persistent.url, trust_persistence=True)

    async with traffic(make) as flow:
        await anyio.to_thread.run_sync(persistent.restart)
        await flow.wait_back()
    assert not skips(flow, "kept")
    assert epochs(flow, "kept") == 1


async def test_a_server_that_hangs_is_noticed(server: RedisServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        server.pause()
        try:
            with anyio.fail_after(HANGS_S):
                for watcher in flow.watchers:
                    await watcher.wait(lambda w=watcher: w.states == ["down"])  # type: ignore[misc] # bound
                    with pytest.raises(BackplaneError):
                        await publish(flow.links[0], "kept", "nobody")
                await anyio.sleep_forever()
        except TimeoutError:
            pass
        server.unpause()
        await flow.wait_back()
    assert not skips(flow, "kept")
    assert epochs(flow, "lost") == 1


async def test_a_node_that_only_listens_notices_it_too(server: RedisServer) -> None:
    watcher = Watcher()
    async with hasty(server.url).connect(watcher, Limits()):
        server.pause()
        await watcher.wait(lambda: watcher.states == ["down"])
        server.unpause()
        await watcher.wait(lambda: watcher.states == ["down", "up"])


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_clients_that_the_server_cuts_come_back(
    kind: str, server: RedisServer
) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        server.command("CLIENT", "KILL", "TYPE", kind)
        await flow.wait_back()
    assert not skips(flow, "kept")
    assert epochs(flow, "kept") == 1


async def test_a_flushed_server_begins_new_lives(server: RedisServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        server.command("FLUSHALL")
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert not any(watcher.states for watcher in flow.watchers)


async def test_subscribers_of_a_broker_outlive_the_server(server: RedisServer) -> None:
    """While it is gone publishing fails; then they are told, and go on."""
    rules = [TopicRules(history_size=10)]
    async with (
        Broker(hasty(server.url), rules=rules) as broker,
        broker.subscribe("t") as subscription,
    ):
        await broker.publish("t", "a")
        with anyio.fail_after(PATIENCE_S):
            assert isinstance(await subscription.receive(), Message)
            server.kill()
            with pytest.raises(BackplaneError):
                while True:
                    await broker.publish("t", "nobody")
            await anyio.to_thread.run_sync(server.start)
            assert isinstance(await subscription.receive(), Gap)
            receipt = await broker.publish("t", "b")
            item = await subscription.receive()
        assert isinstance(item, Message)
        assert (item.payload, item.position) == ("b", receipt.position)
        assert broker.statistics().is_backplane_up


async def test_a_node_that_was_away_gets_what_is_kept(server: RedisServer) -> None:
    """More was published than is kept: exactly the rest is told as lost."""
    kept, published = PAGE + 30, 2 * PAGE
    rules = TopicRules(history_size=kept)
    watcher, other = Watcher(), Watcher()
    with FaultProxy(server.port) as proxy:
        away = hasty(f"redis://127.0.0.1:{proxy.port}")
        async with (
            away.connect(watcher, Limits()) as link,
            hasty(server.url).connect(other, Limits()) as publisher,
        ):
            start = await link.subscribe("t", rules)
            await link.subscribe("gone", LOST)
            assert start is not None
            for each in proxy.links():
                each.pause()
            acknowledged: dict[Position, Payload] = {}
            for number in range(1, published + 1):
                done = await publish(publisher, "t", str(number), rules)
                acknowledged[done.position] = str(number)
            await publish(publisher, "gone", "a", LOST)
            for each in proxy.links():
                each.reset()
            await watcher.wait(lambda: watcher.states == ["down", "up"])
            await publish(publisher, "gone", "b", LOST)
            await watcher.wait_payload("gone", "b")
    expected = [str(n) for n in range(published - kept + 1, published + 1)]
    assert watcher.shape("t") == [published - kept, *expected]
    assert watcher.shape("gone") == [1, "b"]
    watcher.judge("t", start, acknowledged)


async def test_a_subscription_is_there_before_the_stream_is_looked_at(
    server: RedisServer,
) -> None:
    """The connection that is pushed to is slow: what is published meanwhile counts."""
    watcher = Watcher()
    with FaultProxy(server.port) as proxy:
        backplane = RedisBackplane(f"redis://127.0.0.1:{proxy.port}", compare_s=20)
        async with backplane.connect(watcher, Limits()) as link:
            _, pushes = proxy.links()
            pushes.pause()
            starts: list[Position | None] = []

            async def subscribe() -> None:
                starts.append(await link.subscribe("t", KEPT))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(subscribe)
                await anyio.wait_all_tasks_blocked()
                await publish(link, "t", "a")
                pushes.resume()
            delivered = len(watcher.payloads("t"))
            assert starts[0] is not None
            assert starts[0].offset + delivered == 1
