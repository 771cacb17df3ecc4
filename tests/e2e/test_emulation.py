"""Hostile clients of HTTP streams, on real servers: they end themselves alone."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.client_calls import publish
from tests.e2e.clients import reset, vitals
from tests.e2e.conftest import CLIENT_APP
from tests.e2e.scenarios import play
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

CONNECT = '{"id":1,"connect":{}}'
TEXT = '"' + "x" * 5_000 + '"'


@pytest.fixture
def server(client_server: Server) -> Iterator[Server]:
    """A server on which nobody stays behind."""
    yield client_server
    wait_until(lambda: vitals(client_server)["sessions"] == 0)


def request(path: str, body: bytes, *, told: int | None = None) -> bytes:
    """Return a request, as it goes over the wire.

    Args:
        told: length of the body, if not the real one.
    """
    length = len(body) if told is None else told
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}"
    return f"{head}\r\n\r\n".encode() + body


def raw_client(server: Server, data: bytes, buffer_bytes: int = 0) -> socket.socket:
    """Connect a client that only does what it is told, and send something."""
    sock = socket.socket()
    sock.settimeout(PATIENCE_S)
    if buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(data)
    return sock


def read_until(sock: socket.socket, found: Callable[[bytes], object]) -> bytes:
    """Read until there is what is looked for, or the end."""
    data = b""
    while not found(data):
        part = sock.recv(65_536)
        if not part:
            break
        data += part
    return data


def status(sock: socket.socket) -> int:
    """Read an answer's first line."""
    line, _, _ = read_until(sock, lambda data: b"\r\n" in data).partition(b"\r\n")
    return int(line.split()[1])


def check_others(
    server: Server, sdk: Path, topic: str, misbehave: Callable[[], None]
) -> None:
    """Have an SDK listen to a stream before, while and after somebody misbehaves."""
    said = play(
        sdk,
        "witness",
        server.url,
        {"misbehave": misbehave},
        topic=topic,
        transport="http_stream",
    )
    states = ["connecting", "connected", "disconnected"]
    assert [event[0] for event in said["witness"]] == states
    publications = [event[1] for event in said[f"witness {topic}"][2:-1]]
    assert [pub["data"] for pub in publications] == [{"still": "here"}]
    assert said["calls"] == [["publish", {}]]


def fill(server: Server, topic: str) -> None:
    """Publish until nothing more is sent."""
    stalled = 0
    while stalled < 3:  # a send may just have been waiting for its turn
        before = vitals(server)["sent"]
        publish(server, topic, TEXT, n=10)
        stalled = stalled + 1 if vitals(server)["sent"] == before else 0


def flood(server: Server, topic: str) -> None:
    """Publish more than fits on its way to a client, and into its queue."""
    fill(server, topic)
    publish(server, topic, TEXT, n=300)


def listening(server: Server, topic: str) -> socket.socket:
    """Connect a client that has subscribed, and reads no more."""
    subscribe = json.dumps({"id": 2, "subscribe": {"channel": topic}})
    data = request("/connection/http_stream", f"{CONNECT}\n{subscribe}".encode())
    sock = raw_client(server, data, 8_192)
    read_until(sock, lambda data: b'"id":2' in data)
    return sock


@pytest.mark.parametrize(
    ("publish_much", "how"), [(fill, "stalled"), (flood, "slow_consumer")]
)
def test_a_client_that_does_not_read(
    server: Server,
    sdk: Path,
    publish_much: Callable[[Server, str], None],
    how: str,
) -> None:
    """Its session ends, and so does its connection, which nobody reads from."""
    before = vitals(server)["ended"].get(how, 0)

    def misbehave() -> None:
        with listening(server, f"chat.{how}") as sock:
            publish_much(server, f"chat.{how}")
            wait_until(lambda: vitals(server)["ended"].get(how, 0) == before + 1)
            wait_until(lambda: vitals(server)["sessions"] == 1)  # the other one
            # Not with the end of what is on its way: the connection has been cut.
            with pytest.raises(ConnectionResetError):
                while sock.recv(1_048_576):
                    pass

    check_others(server, sdk, "chat.beside", misbehave)


@pytest.mark.parametrize("more", [b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * 300_000])
@pytest.mark.parametrize("vanish", [socket.socket.close, reset])
def test_a_listener_that_vanishes(
    server: Server, more: bytes, vanish: Callable[[socket.socket], None]
) -> None:
    """It is missed at once, also if it has sent more than its request before."""
    data = request("/connection/uni_http_stream", b"{}") + more
    sock = raw_client(server, data)
    read_until(sock, lambda data: b'"connect"' in data)
    assert vitals(server)["sessions"] == 1
    vanish(sock)
    wait_until(lambda: vitals(server)["sessions"] == 0)


def test_requests_on_one_connection(server: Server) -> None:
    """One after the other, as many as it likes. Who does not wait may get one only."""
    once = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with raw_client(server, b"") as sock:
        for _ in range(3):
            sock.sendall(once)
            read_until(sock, lambda data: data.endswith(b"}"))
        sock.sendall(once + once)
        # Both, if the first was on its way before the second was looked at.
        assert read_until(sock, lambda _: False).count(b"HTTP/1.1 200") in (1, 2)


def test_bodies_that_are_none(server: Server, sdk: Path) -> None:
    """Too large, too slow, too little: each is answered, or its sender has gone."""
    found: dict[str, Any] = {}

    def misbehave() -> None:
        for path in ("/connection/http_stream", "/emulation"):
            huge = request(path, b"x" * 500_000)
            with raw_client(server, huge) as sock:
                found[f"{path} huge"] = status(sock)
            with raw_client(server, request(path, b"", told=10**12)) as sock:
                found[f"{path} endless"] = status(sock)
            with raw_client(server, request(path, b"{", told=9)) as sock:
                found[f"{path} slow"] = status(sock)
                # Nobody waits for the rest of it.
                assert read_until(sock, lambda _: False).count(b"HTTP/1.1") == 0
            reset(raw_client(server, request(path, b"{", told=9)))

    check_others(server, sdk, "chat.bodies", misbehave)
    expected = {"huge": 413, "endless": 413, "slow": 408}
    assert found == {
        f"{path} {name}": code
        for path in ("/connection/http_stream", "/emulation")
        for name, code in expected.items()
    }


def test_more_posts_than_allowed(server: Server, sdk: Path) -> None:
    """The session that they are for ends with 3013; later ones find none."""
    answers: Counter[int] = Counter()
    told: list[Any] = []
    is_over = threading.Event()
    # Many bytes, because not every machine makes requests faster than are allowed.
    call = json.dumps({"id": 2, "rpc": {"method": "fail", "data": "x" * 60_000}})

    def misbehave() -> None:
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as web:
            stream = f"{server.url}/connection/http_stream"
            with web.stream("POST", stream, content=CONNECT) as response:
                lines = response.iter_lines()
                reply = json.loads(next(lines))["connect"]
                post = {name: reply[name] for name in ("session", "node")}

                def speak(_: int) -> None:
                    if not is_over.is_set():
                        answer = server_post(server, {**post, "data": call})
                        answers[answer] += 1
                        if answer == 404:
                            is_over.set()

                with ThreadPoolExecutor(20) as pool:
                    list(pool.map(speak, range(2_000)))
                told.extend(json.loads(line) for line in lines)

    check_others(server, sdk, "chat.flood", misbehave)
    disconnect = {"code": 3013, "reason": "too many requests"}
    assert told[-1] == {"push": {"disconnect": disconnect}}
    assert set(answers) <= {204, 404, 429}
    assert answers[204] >= 30  # two seconds' worth at once
    assert answers[404] >= 1


def server_post(server: Server, post: dict[str, str]) -> int:
    """Return the status of what the server answers to a post on its own connection."""
    with raw_client(server, request("/emulation", json.dumps(post).encode())) as sock:
        return status(sock)


def test_a_client_on_plain_hypercorn(sdk: Path) -> None:
    """Without the hardening its session ends as well; the connection may stay."""
    with Server(CLIENT_APP, "asyncio") as server:
        with listening(server, "chat.plain"):
            flood(server, "chat.plain")
            wait_until(lambda: vitals(server)["sessions"] == 0)
            assert vitals(server)["ended"]["slow_consumer"] == 1
        check_others(server, sdk, "chat.after", lambda: None)
