"""Real faults of a real Redis: nothing may be lost in silence, nothing may come twice.

See ``traffic`` for what goes on meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from adapters.redis import RedisBackplane
from adapters.redis.following import PAGE
from broker import Broker
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError
from broker.message import Gap, Message, Payload, Position
from broker.testing.conformance import check_backplane
from tests.fault_proxy import FaultProxy
from tests.serving import free_port

from .judge import PATIENCE_S, Watcher
from .servers import HAS_REDIS, HAS_VALKEY, RedisServer
from .traffic import KEPT, LOST, check_listener, epochs, hang, publish, skips, traffic

POLL_S = 0.02


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


def cut_short(folder: Path) -> None:
    """Take the last byte from what a server has written."""
    [file] = folder.glob("appendonlydir/*.incr.aof")
    os.truncate(file, file.stat().st_size - 1)


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


async def test_a_disk_that_was_trusted_and_is_cut_short_is_told(
    tmp_path: Path, persistent: RedisServer
) -> None:
    """Its last write is lost, as after a power failure."""
    watcher = Watcher()
    backplane = hasty(persistent.url, trust_persistence=True)
    async with backplane.connect(watcher, Limits()) as link:
        await link.subscribe("t", KEPT)
        for text in "ab":
            await publish(link, "t", text)
        lost = (await publish(link, "t", "c")).position
        await watcher.wait_payload("t", "c")
        persistent.kill()
        cut_short(tmp_path)
        await anyio.to_thread.run_sync(persistent.start)
        await watcher.wait(lambda: watcher.states == ["down", "up"])
        new = (await publish(link, "t", "d")).position
        await watcher.wait_payload("t", "d")
    assert watcher.shape("t") == ["a", "b", "c", 0, "d"]
    assert (new.epoch != lost.epoch, new.offset) == (True, 1)


async def test_a_server_that_becomes_a_replica_is_left(server: RedisServer) -> None:
    """Also by a node that only publishes: nothing else would tell it."""
    watcher = Watcher()
    async with hasty(server.url).connect(watcher, Limits()) as link:
        server.command("REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(BackplaneError):
            await publish(link, "t", "a")
        await watcher.wait(lambda: watcher.states[:1] == ["down"])
        server.command("REPLICAOF", "NO", "ONE")
        with anyio.fail_after(PATIENCE_S):
            while True:
                with suppress(BackplaneError):
                    await publish(link, "t", "b")
                    break
                await anyio.sleep(POLL_S)


async def test_a_server_that_is_late_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    server = RedisServer(tmp_path)

    async def start() -> None:
        with anyio.fail_after(PATIENCE_S):
            while "trying on" not in caplog.text:
                await anyio.sleep(POLL_S)
        await anyio.to_thread.run_sync(server.start)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            async with RedisBackplane(server.url).connect(Watcher(), Limits()) as link:
                await publish(link, "t", "a")
    finally:
        server.kill()


@pytest.mark.skipif(not HAS_VALKEY, reason="needs valkey-server")
async def test_valkey_is_as_good(tmp_path: Path) -> None:
    with RedisServer(tmp_path, program="valkey-server") as server:
        url = server.url.replace("redis", "valkey")
        await check_backplane(lambda: RedisBackplane(url))
        async with traffic(lambda: hasty(url)) as flow:
            await anyio.to_thread.run_sync(server.restart)
            await flow.wait_back()
    assert len(skips(flow, "kept")) == 3
    assert epochs(flow, "kept") == 2


async def test_a_server_that_hangs_is_noticed(server: RedisServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        await hang(flow, server)
    assert not skips(flow, "kept")
    assert epochs(flow, "lost") == 1


async def test_a_node_that_only_listens_notices_it_too(server: RedisServer) -> None:
    await check_listener(hasty(server.url), server)


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
