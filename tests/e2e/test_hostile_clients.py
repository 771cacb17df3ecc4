"""What a hostile client does to others: nothing. Real servers, real sockets."""

from __future__ import annotations

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection

from tests.e2e.clients import raw_client, reset, text_frame, vitals
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

MESSAGES = 60
SIZE = 200_000


def is_hardened(server: Server) -> bool:
    return server.host.startswith("serve-")


def numbers(connection: ClientConnection, count: int, patience_s: float) -> list[int]:
    """Read numbered messages until all are there or nothing comes any more."""
    got: list[int] = []
    try:
        while len(got) < count:
            text = connection.recv(timeout=patience_s)
            got.append(int(str(text).split(":", 1)[0]))
    except (TimeoutError, ConnectionClosed):
        pass
    return got


@pytest.fixture
def witness(server: Server) -> Any:
    """A healthy client that must still be served afterwards."""
    before = vitals(server)
    with server.connect("/ours") as connection:
        yield connection
        connection.send("still here")
        while connection.recv(timeout=PATIENCE_S) != "still here":
            pass  # what the others had to say
    wait_until(lambda: vitals(server)["sessions"] == 0)
    after = vitals(server)
    assert after["queued_bytes"] == after["topics"] == 0
    wait_until(lambda: vitals(server)["tasks"] <= before["tasks"] + 1)
    wait_until(lambda: vitals(server)["files"] <= before["files"] + 1)


def fan_out_with_a_stalled_client(
    server: Server, kind: str, patience_s: float
) -> list[list[int]]:
    """Publish to three healthy clients and a stalled one; return what each got."""
    with ExitStack() as stack:
        # Entered first, so that it waits for the publisher after all have left.
        pool = stack.enter_context(ThreadPoolExecutor())
        stuck = raw_client(server.port, f"/{kind}", buffer_bytes=8_192)
        healthy = [
            # The naive loop will not answer a close in time.
            stack.enter_context(
                server.connect(f"/{kind}", max_size=None, close_timeout=1)
            )
            for _ in range(3)
        ]
        url = f"/publish?to={kind}&messages={MESSAGES}&size={SIZE}"
        pool.submit(server.post, url)
        reading = [
            pool.submit(numbers, client, MESSAGES, patience_s) for client in healthy
        ]
        got = [each.result() for each in reading]
        reset(stuck)  # only now can the naive loop go on
        return got


def test_a_stalled_client_freezes_the_naive_loop_and_not_ours(server: Server) -> None:
    """60 messages of 200 kB, one client of four that never reads."""
    # Less than the user timeout, after which the kernel of `broker serve` frees it.
    frozen = fan_out_with_a_stalled_client(server, "naive", 1.0)
    assert all(len(got) < MESSAGES for got in frozen)
    served = fan_out_with_a_stalled_client(server, "ours", PATIENCE_S)
    assert served == [list(range(MESSAGES))] * 3
    wait_until(lambda: vitals(server)["sessions"] == 0)
    ended = vitals(server)["ended"]
    assert ended["slow_consumer"] + ended["stalled"] == 1


def test_a_client_that_vanishes_at_any_moment(server: Server, witness: Any) -> None:
    for messages in (0, 1, 30):
        sock = raw_client(server.port, "/ours")
        for number in range(messages):
            sock.sendall(text_frame(f"{number}"))
        reset(sock)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /ours HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
    wait_until(lambda: vitals(server)["sessions"] == 1)


@pytest.mark.parametrize(
    ("frame", "codes"),
    [
        (Frame(Opcode.BINARY, b"binary"), {1003}),
        (Frame(Opcode.TEXT, b"x" * 262_145), {1009}),
        # hypercorn 0.18 as it comes answers what is no WebSocket with a bare end of
        # the TCP connection, which a client reads as 1006.
        (Frame(Opcode.TEXT, b"\xff\xfe"), {1006, 1007}),
        (Frame(Opcode.CONT, b"of nothing"), {1002, 1006}),
    ],
)
def test_a_bad_frame_costs_its_sender_alone(
    server: Server, witness: Any, frame: Frame, codes: set[int]
) -> None:
    with server.connect("/ours", max_size=None) as connection:
        connection.socket.sendall(frame.serialize(mask=True))
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=PATIENCE_S)
        received = connection.protocol.close_rcvd
        code = 1006 if received is None else received.code
        assert code in (codes - {1006} if is_hardened(server) else codes)
        if code in (1003, 1009):
            assert received is not None
            assert received.reason


def test_a_frame_after_the_close(server: Server, witness: Any) -> None:
    sock = raw_client(server.port, "/ours")
    sock.sendall(Frame(Opcode.CLOSE, struct.pack("!H", 1000)).serialize(mask=True))
    sock.sendall(text_frame("too late"))
    wait_until(lambda: vitals(server)["sessions"] == 1)
    sock.close()


def test_a_flood_of_subscribes(server: Server, witness: Any) -> None:
    before = vitals(server)["ended"]["limit_exceeded"]
    with server.connect("/ours") as connection:
        with pytest.raises(ConnectionClosed) as closed:
            for number in range(100):
                connection.send(f"subscribe t{number}")
            connection.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert closed.value.rcvd.reason == "max_subscriptions is 20, and all are in use"
    wait_until(lambda: vitals(server)["ended"]["limit_exceeded"] == before + 1)


def test_a_flooder_is_held_back_and_then_closed(server: Server, witness: Any) -> None:
    """Nobody takes its messages: TCP holds it back, and after stall_s it is closed."""
    before = vitals(server)["ended"]["inbox_full"]
    sock = raw_client(server.port, "/deaf")
    sock.settimeout(1)
    payload = Frame(Opcode.BINARY, b"x" * 60_000).serialize(mask=True)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64_000_000:
            sent += sock.send(payload)
    assert sent < 64_000_000
    assert vitals(server)["queued_bytes"] < 400_000
    wait_until(lambda: vitals(server)["ended"]["inbox_full"] == before + 1)
    reset(sock)


def test_a_flooder_that_was_closed_is_drained_until_it_goes(
    server: Server, witness: Any
) -> None:
    """20 clients send 200 messages into a close: no task and no socket is left."""
    for _ in range(20):
        sock = raw_client(server.port, "/refused")
        try:
            for number in range(200):
                sock.sendall(text_frame(f"{number}"))
        except OSError:
            pass  # it was quicker
        sock.close()


def test_many_come_and_go_and_nothing_is_left(server: Server, witness: Any) -> None:
    for _ in range(5):
        sockets = [raw_client(server.port, "/ours") for _ in range(40)]
        assert vitals(server)["sessions"] == 41
        for index, sock in enumerate(sockets):
            reset(sock) if index % 2 else sock.close()
        wait_until(lambda: vitals(server)["sessions"] == 1)


def test_it_stops_in_time_with_clients_connected(server: Server) -> None:
    """Its own process: idle and busy clients, SIGTERM, exit code 0."""
    with Server("tests.e2e.app:app", server.host) as own, ExitStack() as stack:
        clients = [stack.enter_context(own.connect("/ours")) for _ in range(5)]
        clients[0].send("hello")
        for client in clients:
            assert client.recv(timeout=PATIENCE_S) == "hello"
        # hypercorn 0.18 as it comes, one per connection it cuts
        own.may_log_tracebacks = not is_hardened(server)
        assert own.stop() == 0
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=PATIENCE_S)
            if is_hardened(server):
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
