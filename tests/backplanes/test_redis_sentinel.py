"""Redis with sentinels: whoever is the primary now carries the messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.redis import RedisBackplane
from adapters.redis.sentinel import primary_of
from adapters.redis.urls import parse_url
from broker.config import Limits
from broker.errors import BackplaneError, UsageError
from tests.serving import free_port, wait_until

from .judge import Watcher
from .redis_sentinel import NAME, Sentinel, Watched
from .servers import HAS_REDIS
from .traffic import KEPT, epochs, publish, skips, traffic


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with Watched(tmp_path) as watched:
        yield watched


def hasty(url: str) -> RedisBackplane:
    """Return a backplane that notices faults soon."""
    return RedisBackplane(url, timeout_s=1.0, heartbeat_s=0.3, compare_s=0.3)


async def test_a_replica_takes_over(watched: Watched) -> None:
    """It may lack what was acknowledged last: a new life, and all are told."""
    async with traffic(lambda: hasty(watched.url)) as flow:
        watched.primary.kill()
        await flow.wait_back()
    assert len(skips(flow, "kept")) == len(skips(flow, "lost")) == 3
    assert epochs(flow, "kept") == 2
    assert [watcher.states for watcher in flow.watchers] == [["down", "up"]] * 3
    assert watched.replica.command("EXISTS", "broker:t:{:kept}") == "1"


async def test_a_primary_that_is_one_no_longer_is_left(watched: Watched) -> None:
    """It lives on, as a replica. Here it does not even cut its clients."""
    async with traffic(lambda: hasty(watched.url)) as flow:
        watched.sentinel.command("SENTINEL", "FAILOVER", NAME)
        await flow.wait_back()
    assert epochs(flow, "kept") == 2
    for topic in ("kept", "lost"):
        assert len(skips(flow, topic)) == 3


async def test_a_node_that_only_listens_follows_the_sentinels(
    watched: Watched,
) -> None:
    """The old primary answers as ever: it has not heard that it is one no longer."""
    watcher = Watcher()
    other = RedisBackplane(watched.replica.url)
    async with hasty(watched.url).connect(watcher, Limits()) as link:
        await link.subscribe("t.*", KEPT)
        watched.replica.command("REPLICAOF", "NO", "ONE")
        port = str(watched.replica.port)
        for command in (
            ("REMOVE", NAME),
            ("MONITOR", NAME, "127.0.0.1", port, "1"),
        ):
            watched.sentinel.command("SENTINEL", *command)
        await watcher.wait(lambda: watcher.states == ["down", "up"])
        async with other.connect(Watcher(), Limits()) as publisher:
            await publish(publisher, "t.a", "a")
            await watcher.wait_payload("t.a", "a")


async def test_the_newest_failover_counts(tmp_path: Path, watched: Watched) -> None:
    """One sentinel was cut off, and names the primary of old. Another one is gone."""
    watched.sentinel.command("SENTINEL", "FAILOVER", NAME)
    wait_until(lambda: watched.sentinel.names(watched.replica))
    with Sentinel(tmp_path, port=free_port()) as late:
        hosts = f"127.0.0.1:{late.port},127.0.0.1:{free_port()},{watched.host}"
        backplane = hasty(f"redis-sentinel://{hosts}/{NAME}")
        async with backplane.connect(Watcher(), Limits()) as link:
            await publish(link, "t", "a")
    assert watched.replica.command("EXISTS", "broker:t:{:t}") == "1"


@pytest.mark.parametrize("password", ["geheim", ""])
async def test_what_sentinels_have_against_it_is_told(
    tmp_path: Path, password: str
) -> None:
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with Watched(tmp_path, password="p") as watched:
        url = watched.url.replace(NAME, NAME if password else "nobody")
        backplane = RedisBackplane(
            f"{url}?sentinel_password={password or 'p'}", connect_s=0.3
        )
        problem = "password" if password else "No such master"
        with pytest.raises(BackplaneError, match=problem) as caught:
            async with backplane.connect(Watcher(), Limits()):
                raise AssertionError
    assert "geheim" not in str(caught.value)


async def test_no_sentinel_is_said_in_one_line() -> None:
    url = f"redis-sentinel://u:geheim@127.0.0.1:{free_port()}/{NAME}"
    backplane = RedisBackplane(url, connect_s=0.2)
    with pytest.raises(BackplaneError, match="no sentinel names") as caught:
        async with backplane.connect(Watcher(), Limits()):
            raise AssertionError
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_urls_of_sentinels() -> None:
    target = parse_url("rediss-sentinel://u:p%40@a:1,b,[::1]:2/the%20one/3")
    assert target.hosts == ("a:1", "b:26379", "[::1]:2")
    assert (target.name, target.database) == ("the one", 3)
    assert target.url_of("c:4") == "rediss://u:p%40@c:4/3"
    assert target.url_of_sentinel("c:4") == "rediss://c:4"
    target = parse_url("redis-sentinel://a/x?sentinel_user=u&sentinel_password=%40")
    assert target.url_of_sentinel("c:4") == "redis://u:%40@c:4"
    assert (target.name, target.database) == ("x", 0)


@pytest.mark.parametrize(
    "url",
    [
        "redis-sentinel://a",
        "redis-sentinel://a/",
        "redis-sentinel://a/x/geheim",
        "redis-sentinel:///x",
        "redis-sentinel://a,/x",
        "redis-sentinel://a:geheim/x",
        "redis-sentinel://u:gehe/im@a/x",
        "redis-sentinel://a/x?geheim=1",
        "redis-sentinel://a/x?geheim",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        RedisBackplane(url)
    assert "gehe" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_persistence_is_not_to_be_trusted() -> None:
    with pytest.raises(UsageError, match="trust_persistence"):
        RedisBackplane("redis-sentinel://a/x", trust_persistence=True)


@pytest.mark.parametrize(
    ("host", "place"), [(b"10.0.0.1", "10.0.0.1:7"), (b"::1", "[::1]:7")]
)
def test_the_primary_that_a_sentinel_names(host: bytes, place: str) -> None:
    answer = {b"ip": host, b"port": b"7", b"config-epoch": b"12", b"more": b""}
    assert primary_of(answer) == (12, place)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"OK",
        [b"ip", b"10.0.0.1"],
        {},
        {b"ip": b"h", b"port": b"7"},
        {b"ip": b"h", b"port": b"7", b"config-epoch": b"new"},
        {b"ip": b"h", b"port": b"7/0?x", b"config-epoch": b"1"},
        {b"ip": b"\xff", b"port": b"7", b"config-epoch": b"1"},
        {b"ip": None, b"port": b"7", b"config-epoch": b"1"},
        {b"ip": b"h", b"port": 7, b"config-epoch": b"1"},
    ],
)
def test_what_is_no_answer_of_a_sentinel(answer: object) -> None:
    """It is a link that could not be made, which is tried again; not a bug of ours."""
    with pytest.raises(BackplaneError, match="cannot be read"):
        primary_of(answer)
