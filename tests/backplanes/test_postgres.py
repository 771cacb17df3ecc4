"""The PostgreSQL backplane while the server is well, and what others write into it."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import psycopg
import pytest

from adapters.backplane.body import encode_body
from adapters.backplane.poison import Poisoned
from adapters.postgres import PostgresBackplane
from adapters.postgres.address import Address
from adapters.postgres.desk import Desk
from adapters.postgres.link import PostgresLink
from adapters.postgres.outbox import AT_ONCE, Dispatcher
from adapters.postgres.schema import VERSION, migrate, sql_of
from adapters.postgres.statements import Statements
from broker import Broker
from broker.backplane import Publication, Published
from broker.config import Limits, RuleBook, TopicRules
from broker.errors import (
    BackplaneError,
    LimitExceeded,
    RecoveryImpossible,
    UsageError,
)
from broker.message import Position
from broker.state.presence import Member
from broker.testing.conformance import check_backplane
from tests.fault_proxy import FaultProxy
from tests.serving import free_port

from .judge import PATIENCE_S, Watcher
from .leaving import check_patterns_beside_topics
from .postgres_server import POSTGRES, PostgresServer
from .traffic import KEPT, LOST, publish

LEASE_S = 0.6
POLL_S = 0.02
DOCS = Path(__file__).parents[2] / "docs" / "postgresql.md"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of localhost that signs itself, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    file, public = folder / "certificate.pem", folder / "public.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2"
    command += f" -addext subjectAltName=DNS:localhost -keyout {file} -out {public}"
    subprocess.run(command.split(), check=True, capture_output=True)
    file.write_text(file.read_text() + public.read_text())
    return file


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[PostgresServer]:
    """One for all: each test has a schema of its own."""
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL; scripts/install-engines")
    with PostgresServer(certificate) as server:
        yield server


@pytest.fixture
def schema(server: PostgresServer) -> str:
    return server.schema()


@asynccontextmanager
async def linked(
    server: PostgresServer, schema: str, **options: Any
) -> AsyncGenerator[tuple[Watcher, PostgresLink], None]:
    """Connect one node."""
    watcher = Watcher()
    backplane = PostgresBackplane(server.url, schema=schema, **options)
    async with backplane.connect(watcher, Limits()) as link:
        yield watcher, link


def put(schema: str, topic: str, offset: int, body: bytes) -> str:
    """Return what writes a message as a node does, but wakes nobody."""
    return (
        f"WITH head AS (UPDATE {schema}.state SET head = head + 1 RETURNING head),"
        f" t AS (UPDATE {schema}.topic SET last = {offset} WHERE name = '{topic}'"
        " RETURNING id)"
        f" INSERT INTO {schema}.message SELECT head, id, {offset}, 1, now(), NULL,"
        rf" '\x{body.hex()}' FROM head, t"
    )


async def until(condition: Any) -> None:
    """Poll what only the server knows."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():
            await anyio.sleep(POLL_S)


async def test_conformance(server: PostgresServer, schema: str) -> None:
    await check_backplane(lambda: PostgresBackplane(server.url, schema=schema))


async def test_brokers_on_one_schema_are_one(
    server: PostgresServer, schema: str
) -> None:
    rules = [TopicRules(history_size=10)]
    backplane = PostgresBackplane(server.url, schema=schema)
    async with (
        Broker(backplane, rules=rules) as one,
        Broker(backplane, rules=rules) as two,
        two.subscribe("t") as subscription,
    ):
        receipt = await one.publish("t", "a")
        with anyio.fail_after(PATIENCE_S):
            item = await subscription.receive()
        assert receipt.position == getattr(item, "position", None)
        assert one.statistics().is_backplane_up


async def test_a_pattern_gets_all_while_topics_come_and_go(
    server: PostgresServer, schema: str
) -> None:
    await check_patterns_beside_topics(
        lambda: PostgresBackplane(server.url, schema=schema)
    )


async def test_schemas_keep_apart(server: PostgresServer, schema: str) -> None:
    async with (
        linked(server, schema) as (_, link),
        linked(server, server.schema()) as (watcher, other),
    ):
        await other.subscribe(">", KEPT)
        await publish(link, "t", "a")
        await publish(other, "t", "b")
        await watcher.wait_payload("t", "b")
        assert watcher.shape("t") == ["b"]


async def test_what_comes_while_a_topic_is_subscribed_is_not_passed_over(
    server: PostgresServer, schema: str
) -> None:
    """A node asks the server for its own topics only, and these change."""
    async with (
        linked(server, schema, heartbeat_s=20.0) as (watcher, link),
        linked(server, schema) as (_, other),
    ):
        for number in range(40):
            topic = f"t{number}"
            async with anyio.create_task_group() as tasks:
                for text in ("a", "b", "c"):
                    tasks.start_soon(publish, other, topic, text, LOST)
                start = await link.subscribe(topic, LOST)
            end = (await publish(other, topic, "end", LOST)).position
            await watcher.wait_payload(topic, "end")
            assert start is not None
            assert len(watcher.told[topic]) == end.offset - start.offset
            assert not any(isinstance(each, int) for each in watcher.shape(topic))
            await link.unsubscribe(topic)


async def test_a_lost_notification_costs_a_heartbeat(
    server: PostgresServer, schema: str
) -> None:
    async with linked(server, schema, heartbeat_s=0.1) as (watcher, link):
        await link.subscribe("t", LOST)
        body = encode_body(
            Publication(topic="t", payload="lost", size_bytes=4, rules=LOST)
        )
        server.sql(put(schema, "t", 1, body))
        await watcher.wait_payload("t", "lost")
        assert watcher.shape("t") == ["lost"]


async def test_a_topic_that_went_back_begins_a_new_life(
    server: PostgresServer, schema: str
) -> None:
    """As data that were restored into the same tables would leave it."""
    async with linked(server, schema, compare_s=0.1) as (watcher, link):
        start = await link.subscribe("t", KEPT)
        assert start is not None
        for text in "abc":
            await publish(link, "t", text)
        await watcher.wait_payload("t", "c")
        server.sql(f"UPDATE {schema}.topic SET last = 1")
        await watcher.wait(lambda: len(watcher.told["t"]) == 4)
        new = (await publish(link, "t", "d")).position
        await watcher.wait_payload("t", "d")
        assert watcher.shape("t") == ["a", "b", "c", 0, "d"]
        assert new.offset == 1
        assert new.epoch != start.epoch


async def test_what_others_write_is_skipped(
    server: PostgresServer, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "broker.backplane")
    async with linked(server, schema) as (watcher, link):
        await link.subscribe("t", LOST)
        await link.subscribe(">", LOST)
        await publish(link, "t", "a", LOST)
        await watcher.wait_payload("t", "a")
        server.sql(
            f"INSERT INTO {schema}.topic (name, epoch, life, unused_at)"
            " VALUES ('a b', '', '', now()), ('*', 'x', 'x', 'infinity')",
            put(schema, "t", 2, b"poison"),
            put(schema, "a b", 1, b"\x94\xa1"),
            put(schema, "*", 1, encode_body(publication("*", "x"))),
            # In the way of what is published next.
            f"INSERT INTO {schema}.message SELECT head + 1, 9, 9, 0, now(), NULL, ''"
            f" FROM {schema}.state",
            f"INSERT INTO {schema}.message SELECT -1, id, 3, 0, now(), NULL, ''"
            f" FROM {schema}.topic WHERE name = 't'",
            f"INSERT INTO {schema}.outbox (topic, payload, is_text) VALUES"
            r" ('a b', '', true), ('t', '\xff', true),"
            " ('t', convert_to(repeat('x', 70000), 'UTF8'), true)",
            f"NOTIFY {schema}, 'poison'",
        )
        assert await link.enter("t", Member("c"))
        server.sql(
            f"INSERT INTO {schema}.member SELECT 't', 'x', node, now(), 'x'"
            f" FROM {schema}.member",
            rf"INSERT INTO {schema}.member SELECT 't', '\xff', node, now(), 'x'"
            f" FROM {schema}.member WHERE client_id = 'c'",
        )
        assert await link.members("t") == [Member("c")]
        await publish(link, "t", "b", LOST)
        await watcher.wait_payload("t", "b")
        assert watcher.shape("t") == ["a", 2, "b"]
        await until(lambda: not server.sql(f"SELECT 1 FROM {schema}.outbox"))
        await publish(link, "t", "c", LOST)
        await watcher.wait_payload("t", "c")
        assert watcher.shape("t") == ["a", 2, "b", "c"]
        assert set(watcher.told) == {"t"}
        assert not watcher.states
        assert link.poisoned >= 8
        assert "skipped what is not ours" in caplog.text


async def test_history_with_a_hole_is_no_history(
    server: PostgresServer, schema: str
) -> None:
    async with linked(server, schema) as (_, link):
        start = (await publish(link, "t", "a")).position
        for text in "bc":
            await publish(link, "t", text)
        server.sql(f"DELETE FROM {schema}.message WHERE off = 2")
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=start)
        server.sql(f"UPDATE {schema}.message SET body = 'x' WHERE off = 3")
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=Position(start.epoch, 2))
        assert [m.payload for m in (await link.history("t")).messages] == ["a"]


async def test_history_is_kept_for_its_time(
    server: PostgresServer, schema: str
) -> None:
    rules = TopicRules(history_size=100_000, history_ttl_s=0.3)
    async with linked(server, schema) as (watcher, link):
        await link.subscribe("t", rules)
        start = (await publish(link, "t", "a", rules)).position
        last = (await publish(link, "t", "b", rules)).position
        await watcher.wait_payload("t", "b")
        with anyio.fail_after(PATIENCE_S):
            while (await link.history("t")).messages:
                await anyio.sleep(POLL_S)
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=start)
        assert (await link.history("t", since=last)).messages == []
        server.sql(f"SELECT {schema}.sweep(0, 0, 100)")
        assert not server.sql(f"SELECT 1 FROM {schema}.message")
        following = (await publish(link, "t", "c", rules)).position
        assert following == Position(last.epoch, last.offset + 1)
        ((kept,),) = server.sql(f"SELECT kept_bytes FROM {schema}.topic")
        assert kept == 1


async def test_nothing_is_kept_for_ever(server: PostgresServer, schema: str) -> None:
    """What is not used is deleted; what is followed or kept as history stays."""
    async with linked(server, schema) as (watcher, link):
        rules = TopicRules(history_size=2)
        await link.subscribe("used", rules)
        await publish(link, "lost", "x", LOST)
        await link.tell(b"news")
        for topic in ("unused", "cleared", "used"):
            for number in range(3):
                await publish(link, topic, str(number), rules, f"{number}")
        await link.clear_history("cleared")
        await watcher.wait_payload("used", "2")
        server.sql(
            f"UPDATE {schema}.topic SET unused_at = now() WHERE name <> 'used'",
            f"UPDATE {schema}.published SET expires = now()",
            f"INSERT INTO {schema}.node VALUES ('killed', now())",
            f"INSERT INTO {schema}.member VALUES ('t', 'c', 'killed', now(), '')",
        )

        def names() -> list[str]:
            rows = server.sql(
                f"SELECT DISTINCT name FROM {schema}.topic UNION ALL SELECT"
                f" coalesce(name, 'news') FROM {schema}.message LEFT JOIN"
                f" {schema}.topic t ON t.id = topic_id UNION ALL SELECT 'id' FROM"
                f" {schema}.published UNION ALL SELECT 'member' FROM {schema}.member"
            )
            return [str(name) for (name,) in rows]

        server.sql(f"SELECT {schema}.sweep(0, 0, 100)")
        assert names() == ["used"] * 3
        await publish(link, "used", "3", rules)
        await watcher.wait_payload("used", "3")
        assert watcher.shape("used") == list("0123")
        found = (await link.history("used")).messages
        assert [message.payload for message in found] == ["2", "3"]
        assert names() == ["used"] * 3


async def test_a_topic_that_was_forgotten_begins_a_new_life(
    server: PostgresServer, schema: str
) -> None:
    async with linked(server, schema, linger_s=3.0) as (_, link):
        old = (await publish(link, "t", "a")).position
        server.sql(f"UPDATE {schema}.topic SET unused_at = now()")
        await until(lambda: not server.sql(f"SELECT 1 FROM {schema}.topic"))
        new = (await publish(link, "t", "b")).position
        assert new.offset == 1
        assert new.epoch != old.epoch
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=old)


async def test_members_of_a_node_that_was_killed_go(
    server: PostgresServer, schema: str
) -> None:
    ann, bob = Member("c1", "ann"), Member("c2", "bob")
    options = {"lease_s": LEASE_S, "linger_s": 600.0}  # nothing is swept meanwhile
    async with linked(server, schema, **options) as (_, link):
        async with linked(server, schema, **options) as (_, other):
            await other.enter("t", ann)
            await link.enter("t", bob)
            assert await link.members("t") == [ann, bob]
        with anyio.fail_after(PATIENCE_S):
            while await link.members("t") != [bob]:
                await anyio.sleep(POLL_S)
        await anyio.sleep(LEASE_S)  # the first lease of bob's node is over by then
        assert await link.members("t") == [bob]
        assert await link.enter("t", ann), "who is gone is new"


async def test_members_that_the_server_forgot_come_back(
    server: PostgresServer, schema: str
) -> None:
    ann, bob = Member("c1", "ann"), Member("c2", "bob")
    async with linked(server, schema, lease_s=LEASE_S) as (_, link):
        await link.enter("t", bob)
        await link.enter("t", ann)
        await link.leave("t", "nobody")
        server.sql(f"TRUNCATE {schema}.member, {schema}.node")
        with anyio.fail_after(PATIENCE_S):
            while await link.members("t") != [bob, ann]:
                await anyio.sleep(POLL_S)
        await link.leave("t", bob.client_id)
        await anyio.sleep(LEASE_S)
        assert await link.members("t") == [ann]


async def test_members_that_left_while_the_link_was_down_are_gone(
    server: PostgresServer, schema: str
) -> None:
    """And so are those whose entering was cut off. All others stay."""
    with FaultProxy(server.port) as proxy:
        backplane = PostgresBackplane(server.url_by(proxy.port), schema=schema)
        watcher = Watcher()
        async with backplane.connect(watcher, Limits()) as link:
            for number in range(4):
                await link.enter("t", Member(f"c{number}"))
            with anyio.CancelScope() as scope:
                scope.cancel()
                await link.leave("t", "c3")
            await link.enter("t", Member("c3"))
            for each in proxy.links():
                each.reset()
            await watcher.wait(lambda: watcher.states == ["down"])
            with pytest.raises(BackplaneError):
                await link.leave("t", "c1")
            await watcher.wait(lambda: watcher.states == ["down", "up"])
            found = [member.client_id for member in await link.members("t")]
            assert sorted(found) == ["c0", "c2", "c3"]
            server.sql(
                f"CREATE FUNCTION {schema}.late() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END'",
                f"CREATE TRIGGER late BEFORE INSERT ON {schema}.member"
                f" EXECUTE FUNCTION {schema}.late()",
            )
            with anyio.move_on_after(0.15):
                await link.enter("t", Member("c4"))
            await until(lambda: len(server.sql(f"SELECT 1 FROM {schema}.member")) == 4)
            await link._leases.renew(link._uplink.live())
            assert "c4" not in {each.client_id for each in await link.members("t")}
            assert not link._leases._strays


@pytest.mark.parametrize("name", ["t", "t.*"])
async def test_a_cancelled_subscribe_leaves_nothing(
    name: str, server: PostgresServer, schema: str
) -> None:
    async with linked(server, schema) as (watcher, link):
        for number in range(12):
            is_in_time = True

            async def subscribe() -> None:
                nonlocal is_in_time
                await link.subscribe(name, KEPT)
                is_in_time = False

            with anyio.move_on_after(number * 0.0005):
                await subscribe()
            if not is_in_time:
                await link.unsubscribe(name)
        await link.subscribe("end", KEPT)
        await publish(link, name.replace("*", "a"), "a")
        await publish(link, "end", "end")
        await watcher.wait_payload("end", "end")
        assert list(watcher.told) == ["end"]
        assert link._following._wanted() == ["end"]


async def test_topics_are_bounded(server: PostgresServer, schema: str) -> None:
    backplane = PostgresBackplane(server.url, schema=schema)
    async with backplane.connect(Watcher(), Limits(max_topics=1)) as link:
        await link.subscribe("a", KEPT)
        with pytest.raises(LimitExceeded):
            await link.subscribe("b", KEPT)
        await link.unsubscribe("a")
        await link.subscribe("b", KEPT)


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.postgres.desk.MAX_WAITING", 3)
    desk: Desk[str, str] = Desk(lambda batch, _: batch)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(desk.ask, "")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BackplaneError, match="3 calls wait"):
            await desk.ask("")
        tasks.cancel_scope.cancel()
    assert not desk._waiting
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.ask, "", 60_000_000)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BackplaneError, match="1 calls wait"):
            await desk.ask("", 60_000_000)
        tasks.cancel_scope.cancel()
    assert not desk._waiting_bytes
    desk.close("over")
    with anyio.fail_after(1), pytest.raises(BackplaneError, match="over"):
        await desk.ask("")


async def test_long_news_and_many_at_once(server: PostgresServer, schema: str) -> None:
    news = b"x" * 200_000
    async with (
        linked(server, schema) as (watcher, link),
        linked(server, schema) as (_, other),
    ):
        await other.tell(news)
        await watcher.wait(lambda: watcher.heard == [news])
        await link.subscribe("t", LOST)
        async with anyio.create_task_group() as tasks:
            for number in range(1_000):
                tasks.start_soon(publish, other, "t", str(number), LOST)
        await watcher.wait(lambda: len(watcher.payloads("t")) == 1_000)
        assert set(watcher.payloads("t")) == set(map(str, range(1_000)))


def publication(topic: str, payload: str) -> Publication:
    return Publication(
        topic=topic, payload=payload, size_bytes=len(payload), rules=LOST
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://u:geheim@h",
        "postgresql://u:geheim@h:port/d",
        "postgresql://u:geheim@h:99999/d",
        "postgresql://u:geheim@h/d?geheim=1",
        "postgresql://u:gehe%zz@h/d",
        "host=h password=geheim",
        "geheim",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        PostgresBackplane(url)
    assert "gehe" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    "options",
    [{"schema": "A"}, {"schema": "x; --"}, {"linger_s": 0}, {"compare_s": 21}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PostgresBackplane("postgresql://h/d", **options)


def test_an_address_is_shown_without_its_secrets() -> None:
    url = "postgres://me:geheim@h:1/d?sslpassword=geheim"
    address = Address(url=url, schema="s", timeout_s=1)
    assert address.remedy == "broker migrate postgresql://me@h:1/d --schema s"
    assert "geheim" not in repr(address)


async def test_an_ordinary_role_with_a_schema_of_its_own_will_do(
    server: PostgresServer,
) -> None:
    """It may make no schema, and others have put functions where it looks for them."""
    name, role = f"s{uuid4().hex}", f"r{uuid4().hex}"
    server.sql(
        f"CREATE ROLE {role} LOGIN",
        f"CREATE SCHEMA {name} AUTHORIZATION {role}",
        *(
            f"CREATE FUNCTION {name}.{function} LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION ''hijacked''; END'"
            for function in (
                "hashtextextended(text, int) RETURNS bigint",
                "convert_to(text, text) RETURNS bytea",
                "divide(float8, int) RETURNS float8",
            )
        ),
        f"CREATE OPERATOR {name}./ (FUNCTION={name}.divide, LEFTARG=float8,"
        " RIGHTARG=int)",
        f"ALTER ROLE {role} SET search_path = {name}",
    )
    url = server.url.replace("postgres@", f"{role}@")
    migrate(Address(url=url, schema=name, timeout_s=PATIENCE_S))
    backplane = PostgresBackplane(url, schema=name, lease_s=LEASE_S)
    watcher = Watcher()
    async with backplane.connect(watcher, Limits()) as link:
        await link.subscribe("t", KEPT)
        await publish(link, "t", "a")
        with psycopg.connect(url) as own:
            own.execute(f"SELECT {name}.publish('t', 'b')".encode())
        await watcher.wait_payload("t", "b")
        assert await link.enter("t", Member("c"))
    assert watcher.shape("t") == ["a", "b"]


async def test_what_a_topic_keeps_may_be_without_bounds(
    server: PostgresServer, schema: str
) -> None:
    rules = TopicRules(
        history_size=10**30, history_bytes=2**63, history_ttl_s=float("inf")
    )
    async with linked(server, schema) as (_, link):
        await publish(link, "t", "a", rules)
        assert [m.payload for m in (await link.history("t")).messages] == ["a"]


async def refused(url: str, **options: Any) -> str:
    """Return why a node cannot connect."""
    backplane = PostgresBackplane(url, connect_s=0.4, **options)
    with pytest.raises(BackplaneError, match=r"not reached within 0\.4 s: ") as caught:
        async with backplane.connect(Watcher(), Limits()):
            raise AssertionError
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_what_is_not_there_is_said_in_one_line(server: PostgresServer) -> None:
    assert "refused" in await refused(f"postgresql://u:geheim@127.0.0.1:{free_port()}")
    absent = server.url.replace("/postgres", "/absent").replace(
        "//absent", "//postgres"
    )
    assert 'database "absent" does not exist' in await refused(absent)
    problem = await refused(server.url, schema="absent")
    remedy = f"broker migrate {server.url} --schema absent"
    assert f'the schema "absent" is not there, and {VERSION} is needed' in problem
    assert problem.endswith(f"run: {remedy}")


async def test_a_newer_schema_is_refused(server: PostgresServer, schema: str) -> None:
    server.sql(
        f"CREATE OR REPLACE FUNCTION {schema}.version() RETURNS integer"
        " LANGUAGE sql IMMUTABLE AS 'SELECT 99'"
    )
    assert "is of version 99, newer than" in await refused(server.url, schema=schema)


async def test_a_schema_that_is_dropped_is_named(
    server: PostgresServer, schema: str
) -> None:
    async with linked(server, schema, heartbeat_s=0.1) as (watcher, link):
        server.sql(f"DROP SCHEMA {schema} CASCADE")
        await watcher.wait(lambda: watcher.states == ["down"])
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    await publish(link, "t", "a")
                except BackplaneError as error:
                    if "broker migrate" in str(error):
                        break
                await anyio.sleep(POLL_S)
        migrate(Address(url=server.url, schema=schema, timeout_s=PATIENCE_S))
        await watcher.wait(lambda: watcher.states == ["down", "up"])
        await publish(link, "t", "a")


async def test_passwords_and_tls(
    server: PostgresServer, schema: str, certificate: Path
) -> None:
    server.sql(
        "DROP ROLE IF EXISTS guarded",
        "CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'p:/@%'",
    )
    host = f"{server.port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full"
    known = f"{host}&sslrootcert={certificate}"
    url = f"postgresql://guarded:p%3A%2F%40%25@localhost:{known}"
    async with PostgresBackplane(url, schema=schema).connect(
        Watcher(), Limits()
    ) as link:
        await publish(link, "t", "a")
        rows = server.sql(
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE usename = 'guarded'"
        )
        assert rows == [(True,)]
    wrong = url.replace("p%3A%2F%40%25", "geheim")
    assert "password authentication failed" in await refused(wrong, schema=schema)
    other = url.replace("@localhost", "@elsewhere")
    assert "does not match host name" in await refused(other, schema=schema)


async def test_an_outbox_publishes_what_is_committed(
    server: PostgresServer, schema: str
) -> None:
    rules = (TopicRules(pattern="kept.>", history_size=10),)
    async with linked(server, schema, outbox_rules=rules, heartbeat_s=0.3) as (
        watcher,
        link,
    ):
        await link.subscribe("kept.a", rules[0])
        role = f"app_{schema}"
        server.sql(
            f"CREATE ROLE {role}",
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT INSERT ON {schema}.outbox TO {role}",
        )
        with psycopg.connect(server.url) as own:
            own.execute(f"SET ROLE {role}".encode())
            own.commit()
            send = f"SELECT {schema}.publish".encode()
            own.execute(send + b"('kept.a', 'rolled back')")
            own.rollback()
            own.execute(send + b"('kept.a', 'text')")
            own.execute(send + rb"('kept.a', '\x00ff'::bytea)")
            own.execute(send + b"""('kept.a', '{"a": 1}'::jsonb)""")
            own.execute(send + b"('kept.a', 'unwoken', wake => false)")
            for topic in ("", "a b", "*", ">", "$presence.a", "a..b", "a" * 256, "ü"):
                with pytest.raises(psycopg.DataError), own.transaction():
                    own.execute(send + b"(%s, 'x')", (topic,))
            await anyio.sleep(0.3)  # nothing is seen before it is committed
            assert not watcher.told
            own.commit()
        await watcher.wait_payload("kept.a", "unwoken")
        expected = ["text", b"\x00\xff", '{"a": 1}', "unwoken"]
        assert watcher.shape("kept.a") == expected
        page = await link.history("kept.a")
        assert [each.payload for each in page.messages] == expected
        assert not server.sql(f"SELECT 1 FROM {schema}.outbox")


async def test_an_outbox_is_emptied_whatever_is_in_it(
    server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large or no topic is not even read; the rest is in small pieces."""
    monkeypatch.setattr("adapters.postgres.outbox.AT_ONCE_BYTES", 100_000)
    insert = f"INSERT INTO {schema}.outbox (topic, payload, is_text)"
    server.sql(
        f"{insert} VALUES ('\u0142', 'x', true), (repeat('t', 300), 'x', true),"
        " ('t', decode(repeat('00', 4000000), 'hex'), false)",
        f"{insert} SELECT 't', convert_to(n || repeat(' ', 40000), 'UTF8'), true"
        " FROM generate_series(1, 9) n",
    )
    # What this client speaks does not decide what may be there.
    url = f"{server.url}?client_encoding=latin1"
    watcher = Watcher()
    limits = Limits()
    dispatcher = Dispatcher(
        schema, Statements(schema), RuleBook(()), limits, Poisoned()
    )
    with Address(url=url, schema=schema, timeout_s=PATIENCE_S).connect() as connection:
        rows = dispatcher.look(connection)
    assert [(row[1], row[3]) for row in rows[:3]] == [
        (None, b"x"),
        (None, b"x"),
        ("t", None),
    ]
    assert len(rows) == 3 + 1
    backplane = PostgresBackplane(url, schema=schema)
    async with backplane.connect(watcher, limits) as link:
        await link.subscribe("t", KEPT)
        await watcher.wait(lambda: len(watcher.payloads("t")) == 9)
        found = [str(each).strip() for each in watcher.payloads("t")]
        assert found == [str(n) for n in range(1, 10)]
        assert link.poisoned == 3
        await link.subscribe(">", LOST)
        server.sql(
            f"INSERT INTO {schema}.topic (name, epoch, life, unused_at)"
            " VALUES ('\u0142', 'x', 'x', 'infinity')",
            put(schema, "\u0142", 1, encode_body(publication("t", "x"))),
        )
        await publish(link, "t", "end")
        await watcher.wait_payload("t", "end")
        assert link.poisoned == 4
        assert not watcher.states


async def test_an_outbox_is_emptied_once_and_in_order_whoever_dies(
    server: PostgresServer, schema: str
) -> None:
    """Killed when all but the commit is done."""
    count = 3 * AT_ONCE
    server.sql(
        f"CREATE FUNCTION {schema}.hold() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END'",
        f"CREATE TRIGGER hold BEFORE DELETE ON {schema}.outbox"
        f" EXECUTE FUNCTION {schema}.hold()",
    )
    killed = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
        f" wait_event = 'advisory' AND query LIKE 'DELETE FROM {schema}.outbox%'"
    )
    async with (
        linked(server, schema, heartbeat_s=0.2) as (one, link),
        linked(server, schema, heartbeat_s=0.2) as (two, other),
    ):
        for each in (link, other):
            await each.subscribe("t", KEPT)
        with psycopg.connect(server.url) as holder:
            holder.execute("SELECT pg_advisory_lock(77)")
            server.sql(
                f"SELECT {schema}.publish('t', n::text)"
                f" FROM generate_series(1, {count}) n",
            )
            for _ in range(2):
                await until(lambda: server.sql(killed) == [(True,)])
        for node in (one, two):
            await node.wait_payload("t", str(count))
            assert node.shape("t") == [str(n) for n in range(1, count + 1)]
        assert "down" in [*one.states, *two.states]


async def test_migrating(server: PostgresServer) -> None:
    """Fresh, again, and several at once; a newer one is left alone."""
    name = "migrated"
    server.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
    address = Address(url=server.url, schema=name, timeout_s=PATIENCE_S)
    found: list[int] = []

    def one() -> None:
        found.append(migrate(address))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(anyio.to_thread.run_sync, one)
    assert sorted(found) == [0, *[VERSION] * 3]
    async with linked(server, name) as (_, link):
        await publish(link, "t", "a")
        assert migrate(address) == VERSION
        await publish(link, "t", "b")
        assert len((await link.history("t")).messages) == 2
    server.sql(
        f"CREATE OR REPLACE FUNCTION {name}.version() RETURNS integer"
        " LANGUAGE sql IMMUTABLE AS 'SELECT 99'"
    )
    with pytest.raises(BackplaneError, match="newer"):
        migrate(address)
    assert "{" not in sql_of(VERSION, name).replace("'{", "")


def test_a_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['psycopg'] = None; import adapters.postgres"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[postgres]'" in run.stderr


async def test_the_example_of_the_documentation(
    server: PostgresServer,
) -> None:
    """The outbox, as an application uses it."""
    (sql,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    server.sql("DROP SCHEMA IF EXISTS broker CASCADE", "DROP TABLE IF EXISTS orders")
    server.sql("CREATE TABLE orders (id int, state text)")
    server.sql("INSERT INTO orders VALUES (7, 'new')")
    migrate(Address(url=server.url, schema="broker", timeout_s=PATIENCE_S))
    async with linked(server, "broker") as (watcher, link):
        await link.subscribe("orders.7", LOST)
        server.sql(sql)
        await watcher.wait(lambda: bool(watcher.told))
        assert watcher.shape("orders.7") == ['{"state": "paid"}']


async def test_positions_are_returned_in_the_order_asked(
    server: PostgresServer, schema: str
) -> None:
    """A batch is sorted by topic on its way."""
    async with linked(server, schema) as (_, link):
        found: dict[str, Published] = {}

        async def one(topic: str, text: str) -> None:
            found[topic + text] = await publish(link, topic, text)

        async with anyio.create_task_group() as tasks:
            for text in "123":
                for topic in "cab":
                    tasks.start_soon(one, topic, text)
        for topic in "abc":
            page = await link.history(topic)
            for message in page.messages:
                assert found[topic + str(message.payload)].position == message.position
