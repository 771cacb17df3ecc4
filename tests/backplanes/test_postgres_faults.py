"""Real faults of a real PostgreSQL: nothing may be lost in silence, or come twice.

See ``traffic`` for what goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import anyio
import pytest

from adapters.postgres import PostgresBackplane
from adapters.postgres.address import Address
from adapters.postgres.following import PAGE
from adapters.postgres.session import Session
from broker import Broker
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError
from broker.message import Message, Payload, Position
from tests.fault_proxy import FaultProxy

from .judge import PATIENCE_S, Watcher
from .postgres_server import POSTGRES, PostgresServer
from .traffic import KEPT, LOST, epochs, hang, publish, skips, traffic


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One for all: each test has a schema of its own, and leaves it running."""
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL; scripts/install-engines")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def schema(server: PostgresServer) -> str:
    return server.schema()


def hasty(url: str, schema: str) -> PostgresBackplane:
    """Return a backplane that notices faults soon."""
    return PostgresBackplane(
        url, schema=schema, timeout_s=1.0, heartbeat_s=0.3, compare_s=0.3
    )


def patient(url: str, schema: str) -> PostgresBackplane:
    """Return one that takes silence for a slow server, until it is cut."""
    return PostgresBackplane(url, schema=schema, timeout_s=PATIENCE_S)


async def test_nodes_agree_while_nothing_fails(
    server: PostgresServer, schema: str
) -> None:
    async with traffic(lambda: hasty(server.url, schema)) as flow:
        pass
    assert not skips(flow, "kept")
    assert not skips(flow, "lost")
    assert not any(watcher.states for watcher in flow.watchers)


async def test_a_crash_loses_nothing(server: PostgresServer, schema: str) -> None:
    """Not even of the topic without history: what was committed is read afterwards."""
    async with traffic(lambda: hasty(server.url, schema)) as flow:
        await anyio.to_thread.run_sync(server.restart)
        await flow.wait_back()
    assert not skips(flow, "kept")
    assert not skips(flow, "lost")
    assert epochs(flow, "kept") == epochs(flow, "lost") == 1
    assert [watcher.states for watcher in flow.watchers] == [["down", "up"]] * 3


async def test_a_server_that_hangs_is_noticed(
    server: PostgresServer, schema: str
) -> None:
    async with traffic(lambda: hasty(server.url, schema)) as flow:
        await hang(flow, server)
    assert not skips(flow, "kept")
    assert not skips(flow, "lost")


async def test_connections_that_the_server_ends_come_back(
    server: PostgresServer, schema: str
) -> None:
    """One after another, so that each kind is once the only one."""
    async with traffic(lambda: hasty(server.url, schema)) as flow:
        for query in ("%s.swept%", "%append%", "%"):
            downs = [watcher.states.count("down") for watcher in flow.watchers]
            await anyio.to_thread.run_sync(
                server.sql,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                f"application_name = 'asgi-broker' AND query LIKE '{query}'",
            )
            for watcher, before in zip(flow.watchers, downs, strict=True):
                await watcher.wait(
                    lambda w=watcher, n=before: (  # type: ignore[misc] # bound
                        w.states.count("down") > n and w.states[-1] == "up"
                    )
                )
            await flow.wait_more()
    assert not skips(flow, "kept")
    assert not skips(flow, "lost")


async def test_another_database_behind_the_same_name_is_a_new_life(
    server: PostgresServer, schema: str
) -> None:
    """As a promoted replica, or a restored dump, is for those who come back to it."""
    async with traffic(lambda: hasty(server.url, schema)) as flow:
        await anyio.to_thread.run_sync(
            server.sql,
            f"CREATE OR REPLACE FUNCTION {schema}.life() RETURNS text LANGUAGE sql"
            " STABLE AS $$SELECT 'another'$$",
        )
        for watcher in flow.watchers:
            await watcher.wait(
                lambda w=watcher: any(isinstance(each, int) for each in w.shape("lost"))  # type: ignore[misc] # bound
            )
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert epochs(flow, "kept") == 2


async def test_tables_that_are_emptied_are_told(
    server: PostgresServer, schema: str
) -> None:
    tables = "state", "topic", "message", "published", "member", "node"
    async with traffic(lambda: hasty(server.url, schema)) as flow:
        await anyio.to_thread.run_sync(
            server.sql,
            "TRUNCATE " + ", ".join(f"{schema}.{each}" for each in tables),
        )
        await flow.wait_more()
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert epochs(flow, "kept") == 2


async def test_who_was_away_gets_what_is_kept(
    server: PostgresServer, schema: str
) -> None:
    """More was published than is kept: exactly the rest is told as lost."""
    kept, published = PAGE + 30, 2 * PAGE
    rules = TopicRules(history_size=kept)
    watcher, other = Watcher(), Watcher()
    with FaultProxy(server.port) as proxy:
        away = patient(server.url_by(proxy.port), schema)
        async with (
            away.connect(watcher, Limits()) as link,
            hasty(server.url, schema).connect(other, Limits()) as publisher,
        ):
            await publisher.subscribe("gone", LOST)
            start = await link.subscribe("t", rules)
            await link.subscribe("gone", LOST)
            assert start is not None
            for each in proxy.links():
                each.go_silent()
            acknowledged: dict[Position, Payload] = {}
            for number in range(1, published + 1):
                done = await publish(publisher, "t", str(number), rules)
                acknowledged[done.position] = str(number)
            await publish(publisher, "gone", "a", LOST)
            await other.wait_payload("gone", "a")  # it has read all, and may be swept
            assert server.sql(f"SELECT {schema}.sweep(0, 0, 10000)") == [(False,)]
            for each in proxy.links():
                each.reset()
            await watcher.wait(lambda: watcher.states[-1:] == ["up"])
            await publish(publisher, "gone", "b", LOST)
            await watcher.wait_payload("gone", "b")
    expected = [str(n) for n in range(published - kept + 1, published + 1)]
    assert watcher.shape("t") == [published - kept, *expected]
    assert watcher.shape("gone") == [1, "b"]
    watcher.judge("t", start, acknowledged)


async def test_who_was_away_for_a_moment_has_missed_nothing(
    server: PostgresServer, schema: str
) -> None:
    """Nor has it of what no history keeps, or what only a pattern covers."""
    watcher, other = Watcher(), Watcher()
    with FaultProxy(server.port) as proxy:
        away = patient(server.url_by(proxy.port), schema)
        async with (
            away.connect(watcher, Limits()) as link,
            hasty(server.url, schema).connect(other, Limits()) as near,
        ):
            await link.subscribe("t", LOST)
            await link.subscribe("a.*", LOST)
            for each in proxy.links():
                each.go_silent()
            await publish(near, "t", "1", LOST)
            await publish(near, "a.b", "2", LOST)
            await near.tell(b"late")
            for each in proxy.links():
                each.reset()
            await watcher.wait(lambda: watcher.states[-1:] == ["up"])
            await near.tell(b"news")
            await publish(near, "t", "3", LOST)
            await watcher.wait_payload("t", "3")
            await watcher.wait(lambda: b"news" in watcher.heard)
    assert watcher.shape("t") == ["1", "3"]
    assert watcher.shape("a.b") == ["2"]
    assert watcher.heard == [b"news"], "who is out of reach will not hear it later"


async def test_subscribers_of_a_broker_outlive_the_server(
    server: PostgresServer, schema: str
) -> None:
    """While it is gone publishing fails; then they go on where they were."""
    rules = [TopicRules(history_size=10)]
    async with (
        Broker(hasty(server.url, schema), rules=rules) as broker,
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
            item = await subscription.receive()
            if isinstance(item, Message) and item.payload == "nobody":
                item = await subscription.receive()  # it was done before the end
        assert isinstance(item, Message)
        assert item.payload == "b"
        assert item.position == receipt.position


async def test_a_node_that_only_listens_notices_it_too(
    server: PostgresServer, schema: str
) -> None:
    watcher = Watcher()
    async with hasty(server.url, schema).connect(watcher, Limits()):
        server.pause()
        try:
            await watcher.wait(lambda: watcher.states == ["down"])
        finally:
            server.unpause()
        await watcher.wait(lambda: watcher.states[-1:] == ["up"])


async def test_a_thread_comes_back_from_a_server_that_hangs(
    server: PostgresServer, schema: str
) -> None:
    """When its time is over, or the link is closed."""
    address = Address(url=server.url, schema=schema, timeout_s=PATIENCE_S)
    for within_s in (0.1, PATIENCE_S):
        session = Session(address)
        await session.run(lambda c: c.execute("SELECT 1"), within_s=PATIENCE_S)
        server.pause()
        try:
            with anyio.move_on_after(0.2), suppress(BackplaneError):
                await session.run(lambda c: c.execute("SELECT 1"), within_s=within_s)
            session.close()
            with anyio.fail_after(PATIENCE_S):
                while session._is_busy:
                    await anyio.sleep(0.02)
        finally:
            server.unpause()


async def test_publishers_that_are_cancelled_leave_no_hole(
    server: PostgresServer, schema: str
) -> None:
    """At any moment of a publish: nothing was published, or all of it was."""
    watcher = Watcher()
    async with hasty(server.url, schema).connect(watcher, Limits()) as link:
        start = await link.subscribe("t", KEPT)
        assert start is not None
        acknowledged: dict[Position, Payload] = {}

        async def one(text: str) -> None:
            done = await publish(link, "t", text)
            acknowledged[done.position] = text

        for number in range(60):
            with anyio.move_on_after(number * 0.0001):
                async with anyio.create_task_group() as tasks:
                    for letter in "abc":
                        tasks.start_soon(one, f"{letter}{number}")
        await one("end")
        await watcher.wait_payload("t", "end")
    payloads = watcher.payloads("t")
    assert len(set(payloads)) == len(payloads)
    assert watcher.shape("t") == payloads
    watcher.judge("t", start, acknowledged)
