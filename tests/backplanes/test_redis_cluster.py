"""A cluster of Redis: topics on several primaries, which fail, come and take over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import anyio
import pytest

from adapters.backplane.body import encode_body
from adapters.redis import RedisBackplane
from adapters.redis.cluster import ClusterWire, layout_of, slot_of
from adapters.redis.codec import Names
from adapters.redis.scripts import PUBLISH
from adapters.redis.urls import parse_url
from broker.backplane import Publication
from broker.config import Limits
from broker.errors import BackplaneError, UsageError
from broker.testing.conformance import ODD_TOPIC, check_backplane
from tests.serving import free_port

from .judge import PATIENCE_S, Watcher
from .redis_cluster import Cluster, Member
from .servers import HAS_REDIS
from .traffic import KEPT, epochs, publish, skips, traffic

POLL_S = 0.02


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """Of one test: its message ids are its own."""
    return uuid4().hex


def hasty(cluster: Cluster, prefix: str) -> RedisBackplane:
    """Return a backplane that notices faults soon."""
    return RedisBackplane(
        cluster.url, prefix=prefix, timeout_s=1.0, heartbeat_s=0.3, compare_s=0.3
    )


def key_of(topic: str) -> str:
    """Return a key in the slot of a topic, whatever the prefix."""
    return Names("", 0).stream(topic)[0]


async def test_conformance(cluster: Cluster) -> None:
    await check_backplane(lambda: RedisBackplane(cluster.url))


async def test_topics_are_on_all_primaries(cluster: Cluster, prefix: str) -> None:
    """And what is pushed comes from each of them, once, to topics and to patterns."""
    watcher, listener = Watcher(), Watcher()
    topics = [f"t.{number}" for number in range(12)]
    async with (
        hasty(cluster, prefix).connect(watcher, Limits()) as link,
        hasty(cluster, prefix).connect(listener, Limits()) as other,
    ):
        for name in ("t.*", "t.>", "*.*"):
            await other.subscribe(name, KEPT)
        for topic in topics:
            await link.subscribe(topic, KEPT)
        for text in ("a", "b"):
            for topic in topics:
                await publish(link, topic, text)
        for each in (watcher, listener):
            for topic in topics:
                await each.wait_payload(topic, "b")
                assert each.shape(topic) == ["a", "b"]
    assert {cluster.member_of(key_of(topic)) for topic in topics} == {*cluster.members}


async def test_a_primary_that_is_killed_and_comes_back(
    cluster: Cluster, prefix: str
) -> None:
    """It has lost all. The link goes down as a whole, and comes back with it."""
    member = cluster.member_of(key_of("kept"))
    async with traffic(lambda: hasty(cluster, prefix)) as flow:
        await anyio.to_thread.run_sync(member.restart)
        await flow.wait_back()
    assert len(skips(flow, "kept")) == 3
    assert epochs(flow, "kept") == 2
    assert all("down" in watcher.states for watcher in flow.watchers)


async def test_a_slot_moves_and_takes_its_topics_along(
    cluster: Cluster, prefix: str
) -> None:
    """Nobody is cut off; the topic begins a new life, which is told."""
    key = key_of("kept")
    source, target = _from_and_to(cluster, key)
    async with traffic(lambda: hasty(cluster, prefix)) as flow:
        await anyio.to_thread.run_sync(cluster.move, key, source, target)
    assert len(skips(flow, "kept")) == 3
    assert epochs(flow, "kept") == 2
    assert not skips(flow, "lost")
    assert not any(watcher.states for watcher in flow.watchers)


async def test_pushes_come_from_where_a_slot_has_gone(
    cluster: Cluster, prefix: str
) -> None:
    """At once, and not when the ends of topics are next compared."""
    topic = "kept"
    source, target = _from_and_to(cluster, key_of(topic))
    watcher = Watcher()
    quiet = RedisBackplane(cluster.url, prefix=prefix, heartbeat_s=20, compare_s=20)
    async with (
        quiet.connect(watcher, Limits()) as link,
        hasty(cluster, prefix).connect(Watcher(), Limits()) as other,
    ):
        await link.subscribe(topic, KEPT)
        await anyio.to_thread.run_sync(cluster.move, key_of(topic), source, target)
        with anyio.fail_after(10):
            for text in ("a", "b"):
                await publish(other, topic, text)
                await watcher.wait_payload(topic, text)
            late = Names(prefix, 0).channel(topic)
            assert target.command("PUBSUB", "SHARDNUMSUB", late) == f"{late}\n1"


async def test_what_came_while_a_slot_moved_is_read(
    cluster: Cluster, prefix: str
) -> None:
    """Kept, but pushed to nobody, as where a topic has gone and nobody is yet."""
    watcher, topic, names = Watcher(), "t", Names(prefix, 0)
    quiet = RedisBackplane(cluster.url, prefix=prefix, heartbeat_s=20, compare_s=20)
    async with quiet.connect(watcher, Limits()) as link:
        await link.subscribe(topic, KEPT)
        await publish(link, topic, "a")
        await watcher.wait_payload(topic, "a")
        wire = link._uplink.live()
        assert isinstance(wire, ClusterWire)
        body = encode_body(
            Publication(topic=topic, payload="b", size_bytes=1, rules=KEPT)
        )
        keys = [*names.stream(topic), names.channel(topic) + " elsewhere"]
        kept = [1, "f", 60_000, body, 1, 100, 1_000_000, 60_000, 1]
        await wire.call(PUBLISH, keys, kept)
        slot = slot_of(keys[0].encode())
        owner = cluster.member_of(keys[0])
        wire.move(slot, f"127.0.0.1:{owner.port}")
        with anyio.fail_after(10):  # before ends of topics are compared
            await watcher.wait_payload(topic, "b")
    assert watcher.shape(topic) == ["a", "b"]


async def test_a_primary_that_is_new_is_noticed(cluster: Cluster, prefix: str) -> None:
    """Also by who has patterns only, and is never sent there."""
    topic = "new"
    source = cluster.member_of(key_of(topic))
    watcher = Watcher()
    try:
        async with (
            hasty(cluster, prefix).connect(watcher, Limits()) as link,
            hasty(cluster, prefix).connect(Watcher(), Limits()) as other,
        ):
            await link.subscribe("*", KEPT)
            await publish(other, topic, "a")
            await watcher.wait_payload(topic, "a")
            await anyio.to_thread.run_sync(
                cluster.move, key_of(topic), source, cluster.spare
            )
            # Members need a while to agree, and each of them may be asked meanwhile.
            with anyio.fail_after(PATIENCE_S):
                while "b" not in watcher.payloads(topic):
                    with suppress(BackplaneError):
                        await publish(other, topic, "b")
                    await anyio.sleep(POLL_S)
        assert "down" in watcher.states
    finally:
        cluster.move(key_of(topic), cluster.spare, source)


async def test_one_known_member_is_enough_and_may_go(
    cluster: Cluster, prefix: str
) -> None:
    """Once connected, a node knows the others, and comes back by them."""
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{cluster.spare.port}"
    backplane = RedisBackplane(f"redis-cluster://{hosts}", prefix=prefix)
    watcher = Watcher()
    async with backplane.connect(watcher, Limits()) as link:
        cluster.spare.kill()
        try:
            cluster.members[0].command("CLIENT", "KILL", "TYPE", "pubsub")
            await watcher.wait(lambda: watcher.states == ["down", "up"])
            await publish(link, "t", "a")
        finally:
            await anyio.to_thread.run_sync(cluster.spare.start)


async def test_no_member_is_said_in_one_line() -> None:
    url = f"redis-cluster://u:geheim@127.0.0.1:{free_port()}"
    with pytest.raises(BackplaneError, match="no member of the cluster") as caught:
        async with RedisBackplane(url, connect_s=0.2).connect(Watcher(), Limits()):
            raise AssertionError
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_of_a_topic_are_in_one_slot() -> None:
    names = Names("a:b", 0)
    for topic in ("t", ODD_TOPIC, "}", "{}", "a}b{c", "{"):
        keys = [*names.stream(topic), *names.presence(topic), names.channel(topic)]
        keys.append(names.message_id(topic, "} {x}"))
        assert len({slot_of(key.encode()) for key in keys}) == 1
        assert names.topic_of(names.channel(topic).encode()) == topic


@pytest.mark.parametrize("key", ["123456789", "{a}x", "x{}{a}", "x{{a}b", "}{", "x{a"])
def test_slots_are_those_of_redis(key: str, cluster: Cluster) -> None:
    answer = cluster.members[0].command("CLUSTER", "KEYSLOT", key)
    assert slot_of(key.encode()) == int(answer)


def test_a_member_that_does_not_know_its_own_name() -> None:
    slots = [
        [0, 1, [None, 7, b"i"]],
        [2, 2, [b"::1", 8, b"j", []], [b"r", 9, b"k"]],
    ]
    layout = layout_of(slots, "[::2]:7")
    assert layout.ids == {"[::2]:7": b"i", "[::1]:8": b"j"}
    assert layout.owners == {0: "[::2]:7", 1: "[::2]:7", 2: "[::1]:8"}


@pytest.mark.parametrize(
    "answer", [None, [[1]], [[0, 5, [b"h"]]], [[0, b"x", [1, 2, 3]]]]
)
def test_what_is_no_layout(answer: object) -> None:
    """A member that is none is tried again, and does not end the broker."""
    with pytest.raises(BackplaneError, match="cannot be read"):
        layout_of(answer, "h:1")


def test_urls_of_a_cluster() -> None:
    target = parse_url("rediss-cluster://u:p@a:1,b/0")
    assert target.hosts == ("a:1", "b:6379")
    assert target.url_of("c:4") == "rediss://u:p@c:4/0"


@pytest.mark.parametrize(
    "url", ["redis-cluster://a/1", "redis-cluster://a/x", "redis-cluster://a?geheim=1"]
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        RedisBackplane(url)
    assert "geheim" not in str(caught.value)


def test_what_does_not_go_with_a_cluster() -> None:
    with pytest.raises(UsageError, match="trust_persistence"):
        RedisBackplane("redis-cluster://a", trust_persistence=True)
    with pytest.raises(UsageError, match="prefix"):
        RedisBackplane("redis-cluster://a", prefix="{x}")


def _from_and_to(cluster: Cluster, key: str) -> tuple[Member, Member]:
    """Return where a key is now, and where it is not."""
    slot = str(slot_of(key.encode()))
    owners = [
        each
        for each in cluster.members
        if each.command("CLUSTER", "COUNTKEYSINSLOT", slot) != "0"
    ]
    source = owners[0] if owners else cluster.member_of(key)
    return source, next(each for each in cluster.members if each is not source)
