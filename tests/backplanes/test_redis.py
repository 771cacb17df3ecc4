"""The Redis backplane while the server is well, and what others write into it."""

from __future__ import annotations

import gc
import logging
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from adapters.backplane.body import encode_body
from adapters.redis import RedisBackplane
from adapters.redis.codec import Names
from adapters.redis.link import RedisLink
from adapters.redis.scripts import PUBLISH
from adapters.redis.wire import LINK_ERRORS, Address, open_wire
from broker import Broker
from broker.backplane import Publication, Published
from broker.config import Limits, TopicRules
from broker.errors import (
    BackplaneError,
    LimitExceeded,
    RecoveryImpossible,
    UsageError,
)
from broker.message import Item, Message, Position
from broker.state.presence import Member
from broker.testing.conformance import check_backplane
from tests.serving import free_port

from .judge import PATIENCE_S, Watcher
from .leaving import check_patterns_beside_topics
from .servers import RedisServer

KEPT = TopicRules(history_size=100)
LEASE_S = 0.6
POLL_S = 0.02


def publication(topic: str, payload: str, rules: TopicRules = KEPT) -> Publication:
    return Publication(
        topic=topic, payload=payload, size_bytes=len(payload), rules=rules
    )


async def publish(
    link: RedisLink, topic: str, payload: str, rules: TopicRules = KEPT
) -> Published:
    return await link.publish(publication(topic, payload, rules))


@asynccontextmanager
async def linked(
    server: RedisServer, *, prefix: str | None = None, **options: Any
) -> AsyncGenerator[tuple[Watcher, RedisLink, str], None]:
    """Connect one node, with a prefix of its own unless one is given."""
    prefix = prefix or f"p{uuid4().hex}"
    watcher = Watcher()
    backplane = RedisBackplane(server.url, prefix=prefix, **options)
    async with backplane.connect(watcher, Limits()) as link:
        yield watcher, link, prefix


async def test_conformance(redis: RedisServer) -> None:
    await check_backplane(lambda: RedisBackplane(redis.url))


async def test_brokers_on_one_redis_are_one(redis: RedisServer) -> None:
    rules = [TopicRules(history_size=10)]
    backplane = RedisBackplane(redis.url, prefix=uuid4().hex)
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


async def test_what_comes_together_wakes_a_subscriber_once(redis: RedisServer) -> None:
    """Fifty publishes in one tick are few wake-ups, and all of it comes in order."""
    backplane = RedisBackplane(redis.url, prefix=uuid4().hex)
    payloads = [str(number) for number in range(50)]
    async with (
        Broker(backplane) as one,
        Broker(backplane) as two,
        two.subscribe("t") as subscription,
        anyio.create_task_group() as tasks,
    ):
        for payload in payloads:
            tasks.start_soon(one.publish, "t", payload)
        got: list[Item] = []
        wakeups = 0
        with anyio.fail_after(PATIENCE_S):
            while len(got) < len(payloads):
                got += await subscription.receive_all()
                wakeups += 1
    positions = [item.position for item in got if isinstance(item, Message)]
    assert [each and each.offset for each in positions] == list(range(1, 51))
    assert wakeups < len(payloads) / 2


async def test_patterns_miss_nothing_while_topics_come_and_go(
    redis: RedisServer,
) -> None:
    backplane = RedisBackplane(redis.url, prefix=uuid4().hex)
    await check_patterns_beside_topics(lambda: backplane)


async def test_connections_that_are_cancelled_leave_no_stream_open(
    redis: RedisServer,
) -> None:
    """Those of coredis did. What is open when it is collected is an error here."""
    for ticks in range(60):  # until it is connected
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect_for_ever, redis.url)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    gc.collect()


async def connect_for_ever(url: str) -> None:
    address = Address(url=url, ssl_context=None, timeout_s=PATIENCE_S)
    try:
        async with open_wire(address, "fence"):
            await anyio.sleep_forever()
    except* LINK_ERRORS:
        pass  # of the handshake, which was cancelled; as the uplink does


async def test_a_confirmation_that_nobody_has_asked_for(redis: RedisServer) -> None:
    async with linked(redis) as (watcher, link, _):
        wire = link._uplink.live()
        wire.tell(b"SUBSCRIBE", [link._names.news])
        await link.subscribe("t", KEPT)  # which waits for what the server says to that
        await publish(link, "t", "a")
        await watcher.wait_payload("t", "a")
        assert not watcher.states


async def test_prefixes_and_databases_keep_apart(redis: RedisServer) -> None:
    prefix = uuid4().hex
    watcher = Watcher()
    elsewhere = RedisBackplane(redis.url.removesuffix("0") + "1", prefix=prefix)
    async with (
        linked(redis, prefix=prefix) as (_, link, _),
        elsewhere.connect(watcher, Limits()) as other,
    ):
        await other.subscribe(">", KEPT)
        await publish(link, "t", "a")
        await publish(other, "t", "b")
        await watcher.wait_payload("t", "b")
        assert watcher.shape("t") == ["b"]


async def test_a_lost_push_is_found(redis: RedisServer) -> None:
    """Published as ever, but pushed to a channel that nobody listens to."""
    async with linked(redis, compare_s=0.1) as (watcher, link, prefix):
        await link.subscribe("t", KEPT)
        names = Names(prefix, 0)
        address = Address(url=redis.url, ssl_context=None, timeout_s=PATIENCE_S)
        body = encode_body(publication("t", "lost"))
        async with open_wire(address, names.news) as wire:
            keys = [*names.stream("t"), "elsewhere"]
            await wire.call(
                PUBLISH, keys, [1, "f", 60_000, body, 4, 100, 1_000_000, 60_000, 1]
            )
        await watcher.wait_payload("t", "lost")
        assert watcher.shape("t") == ["lost"]


async def test_a_stream_that_went_back_begins_a_new_life(redis: RedisServer) -> None:
    """As a disk that was trusted and should not have been would leave it."""
    async with linked(redis, compare_s=0.1) as (watcher, link, prefix):
        start = await link.subscribe("t", KEPT)
        assert start is not None
        for text in "abc":
            await publish(link, "t", text)
        await watcher.wait_payload("t", "c")
        redis.command("HSET", f"{prefix}:t:{{:t}}", "o", "1")
        await watcher.wait(lambda: len(watcher.told["t"]) == 4)
        new = (await publish(link, "t", "d")).position
        await watcher.wait_payload("t", "d")
        assert watcher.shape("t") == ["a", "b", "c", 0, "d"]
        assert new.offset == 1
        assert new.epoch != start.epoch


async def test_what_others_write_is_skipped(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "broker.backplane")
    async with linked(redis) as (watcher, link, prefix):
        await link.subscribe("t", KEPT)
        await link.subscribe(">", KEPT)
        await publish(link, "t", "a")
        channel = f"{prefix}:0:c:{{:"
        poison = ["", "x", "abc 7 x", "abc 99999999999999999 x", "abc 2 \udcff"]
        for data in poison:
            redis.command("PUBLISH", f"{channel}t}}", data)
        for name in ("", "..", "a b", "ü", "*"):
            redis.command("PUBLISH", f"{channel}{name}}}", "abc 1 \x94\xa1")
        redis.command("XADD", f"{prefix}:s:{{:t}}", "*", "d", "x")
        await publish(link, "t", "b")  # its number is below the poison's
        redis.command("HSET", f"{prefix}:p:{{:t}}", "who", "x")
        redis.command("ZADD", f"{prefix}:l:{{:t}}", "9e15", "who")
        assert await link.enter("t", Member("c"))
        assert await link.members("t") == [Member("c")]
        redis.command("SET", f"{prefix}:t:{{:t}}", "x")
        redis.command("SET", f"{prefix}:l:{{:t}}", "x")
        await publish(link, "t", "c")  # of a new life
        assert await link.enter("t", Member("c"))
        await watcher.wait_payload("t", "c")
        assert watcher.shape("t") == ["a", "b", 0, "c"]
        assert not watcher.states
        assert link.poisoned >= 6
        assert "skipped what is not ours" in caplog.text


async def test_a_foreign_entry_is_not_taken_for_a_message(redis: RedisServer) -> None:
    async with linked(redis) as (_, link, prefix):
        start = (await publish(link, "t", "a")).position
        await publish(link, "t", "b")
        entry = redis.command("XRANGE", f"{prefix}:s:{{:t}}", "-", "+", "COUNT", "1")
        expires = entry.splitlines()[-1]
        redis.command("XDEL", f"{prefix}:s:{{:t}}", "2-0")
        redis.command("XADD", f"{prefix}:s:{{:t}}", "2-1", "d", "x", "x", expires)
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=start)
        assert [m.payload for m in (await link.history("t")).messages] == ["a"]


async def test_history_is_kept_for_its_time(redis: RedisServer) -> None:
    rules = TopicRules(history_size=100_000, history_ttl_s=0.3)
    async with linked(redis) as (_, link, _):
        start = (await publish(link, "t", "a", rules)).position
        last = (await publish(link, "t", "b", rules)).position
        with anyio.fail_after(PATIENCE_S):
            while (await link.history("t")).messages:
                await anyio.sleep(POLL_S)
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=start)
        assert (await link.history("t", since=last)).messages == []
        with anyio.fail_after(PATIENCE_S):  # each has its own time
            first = (await publish(link, "u", "a", rules)).position
            while (await link.history("u")).messages[0].position == first:
                await publish(link, "u", "b", rules)
                await anyio.sleep(POLL_S)
        following = (await publish(link, "t", "c", rules)).position
        assert following == Position(last.epoch, last.offset + 1)


async def test_nothing_is_kept_for_ever(redis: RedisServer) -> None:
    async with linked(redis) as (_, link, prefix):
        await link.subscribe("t", KEPT)
        await link.publish(
            Publication(
                topic="t", payload="a", size_bytes=1, rules=KEPT, message_id="i"
            )
        )
        await link.history("t")
        await link.clear_history("t")
        await publish(link, "u", "a", TopicRules())
        await link.enter("t", Member("c"))
        keys = redis.command("KEYS", f"{prefix}:*").splitlines()
        assert len(keys) == 5
        for key in keys:
            assert int(redis.command("PTTL", key)) > 0, key


async def test_members_of_a_node_that_was_killed_go(redis: RedisServer) -> None:
    prefix = uuid4().hex
    ann, bob = Member("c1", "ann"), Member("c2", "bob")
    async with linked(redis, prefix=prefix, lease_s=LEASE_S) as (_, link, _):
        async with linked(redis, prefix=prefix, lease_s=LEASE_S) as (_, other, _):
            await other.enter("t", ann)
            await link.enter("t", bob)
            assert await link.members("t") == [ann, bob]
        with anyio.fail_after(PATIENCE_S):
            while await link.members("t") != [bob]:
                await anyio.sleep(POLL_S)
        await anyio.sleep(LEASE_S)  # bob's first lease is over by then
        assert await link.members("t") == [bob]


async def test_members_that_the_server_forgot_come_back(redis: RedisServer) -> None:
    ann, bob = Member("c1", "ann"), Member("c2", "bob")
    async with linked(redis, lease_s=LEASE_S) as (_, link, prefix):
        await link.enter("t", bob)
        await link.enter("t", ann)
        await link.leave("t", "nobody")
        redis.command("DEL", f"{prefix}:p:{{:t}}", f"{prefix}:l:{{:t}}")
        with anyio.fail_after(PATIENCE_S):
            while await link.members("t") != [bob, ann]:
                await anyio.sleep(POLL_S)
        await link.leave("t", bob.client_id)
        await anyio.sleep(LEASE_S)
        assert await link.members("t") == [ann]


@pytest.mark.parametrize("ticks", range(0, 24, 3))
@pytest.mark.parametrize("name", ["t", "t.*"])
async def test_a_cancelled_subscribe_leaves_nothing(
    name: str, ticks: int, redis: RedisServer
) -> None:
    async with linked(redis) as (watcher, link, prefix):
        is_in_time = True

        async def subscribe() -> None:
            nonlocal is_in_time
            await link.subscribe(name, KEPT)
            is_in_time = False

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscribe)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        if not is_in_time:
            await link.unsubscribe(name)
        await link.subscribe("end", KEPT)
        await publish(link, name.replace("*", "a"), "a")
        await publish(link, "end", "end")
        await watcher.wait_payload("end", "end")
        assert list(watcher.told) == ["end"]
        channels = redis.command("PUBSUB", "CHANNELS", f"{prefix}:*").splitlines()
        assert sorted(channels) == [f"{prefix}:0:c:{{:end}}", f"{prefix}:0:news"]


async def test_topics_are_bounded(redis: RedisServer) -> None:
    backplane = RedisBackplane(redis.url, prefix=uuid4().hex)
    async with backplane.connect(Watcher(), Limits(max_topics=1)) as link:
        await link.subscribe("a", KEPT)
        with pytest.raises(LimitExceeded):
            await link.subscribe("b", KEPT)
        await link.unsubscribe("a")
        await link.subscribe("b", KEPT)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:geheim@h",
        "redis://",
        "redis://u:geheim@h:port",
        "redis://u:gehe/im@h",
        "redis://u:geheim@h/x",
        "redis://h?db=geheim",
        "geheim",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        RedisBackplane(url)
    assert "gehe" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_no_server_is_said_in_one_line() -> None:
    backplane = RedisBackplane(
        f"redis://u:geheim@127.0.0.1:{free_port()}", connect_s=0.2
    )
    with pytest.raises(BackplaneError, match=r"not reached within 0\.2 s: ") as caught:
        async with backplane.connect(Watcher(), Limits()):
            raise AssertionError
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_passwords(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="p:/@ü%") as server:
        host = f"127.0.0.1:{server.port}"
        right = RedisBackplane(f"redis://default:p%3A%2F%40%C3%BC%25@{host}")
        async with right.connect(Watcher(), Limits()) as link:
            await publish(link, "t", "a")
        wrong = RedisBackplane(f"redis://default:geheim@{host}", connect_s=0.2)
        with pytest.raises(BackplaneError, match="password") as caught:
            async with wrong.connect(Watcher(), Limits()):
                raise AssertionError
        assert "geheim" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One of 127.0.0.1 that signs itself, and its key, in one file."""
    file, public = tmp_path / "certificate.pem", tmp_path / "public.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 2"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {file} -out {public}"
    subprocess.run(command.split(), check=True, capture_output=True)
    file.write_text(file.read_text() + public.read_text())
    return file


async def test_tls(tmp_path: Path, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate)
    with RedisServer(tmp_path, certificate=certificate) as server:
        url = f"rediss://127.0.0.1:{server.port}"
        async with RedisBackplane(url, ssl_context=context).connect(
            Watcher(), Limits()
        ) as link:
            await publish(link, "t", "a")


# coredis 6.9 does not close the streams of a connection that TLS has refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls_with_a_certificate_that_will_not_do(
    host: str, tmp_path: Path, certificate: Path
) -> None:
    """Of an authority that nobody knows, or of another host."""
    is_known = host == "localhost"
    context = ssl.create_default_context(cafile=certificate) if is_known else None
    with RedisServer(tmp_path, certificate=certificate) as server:
        backplane = RedisBackplane(
            f"rediss://{host}:{server.port}", ssl_context=context, connect_s=0.5
        )
        with pytest.raises(BackplaneError, match="certificate verify failed"):
            async with backplane.connect(Watcher(), Limits()):
                raise AssertionError
    gc.collect()  # here, where the warnings are expected


async def test_a_link_that_is_down_says_so_at_once(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with linked(server) as (watcher, link, _):
            await link.subscribe("t", KEPT)
            await link.enter("t", Member("stays"))
            await link.enter("t", Member("c"))
            server.kill()
            await watcher.wait(lambda: watcher.states == ["down"])
            for call in (
                publish(link, "t", "a"),
                link.history("t"),
                link.clear_history("t"),
                link.subscribe("u", KEPT),
                link.tell(b""),
                link.enter("t", Member("c")),
                link.leave("t", "c"),
                link.members("t"),
            ):
                with pytest.raises(BackplaneError, match="the link to Redis is down"):
                    await call
            await link.unsubscribe("t")
            server.start()
            await watcher.wait(lambda: watcher.states == ["down", "up"])
            assert await link.members("t") == [Member("stays")]
            await publish(link, "t", "a")
            await link.subscribe("u", KEPT)
            await publish(link, "u", "b")
            await watcher.wait_payload("u", "b")
            assert list(watcher.told) == ["u"]


@pytest.mark.parametrize("times", [{"lease_s": 0.0}, {"compare_s": 21.0}])
def test_times_have_their_range(times: Any) -> None:
    with pytest.raises(UsageError):
        RedisBackplane("redis://h", **times)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:secret@nowhere.invalid:1/2",
        "rediss://u:secret@nowhere.invalid:1/2",
        "valkey://u:secret@nowhere.invalid:1/2",
        "valkeys://u:secret@nowhere.invalid:1/2",
        "redis-sentinel://u:secret@nowhere.invalid:1/primary",
        "rediss-sentinel://u:secret@nowhere.invalid:1/primary/2",
        "redis-cluster://u:secret@nowhere.invalid:1",
        "rediss-cluster://u:secret@nowhere.invalid:1",
    ],
)
def test_a_broker_takes_its_url(url: str) -> None:
    broker = Broker(url)
    assert isinstance(broker.backplane, RedisBackplane)
