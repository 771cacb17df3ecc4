"""Each fault does what it says: seen from plain sockets on both sides."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.fault_proxy import FaultProxy, Link
from tests.serving import PATIENCE_S, wait_until

BRIEF_S = 0.2  # in which nothing comes
FLOOD_BYTES = 64_000_000  # more than the kernel holds for one connection
NEVER_S = 3_600.0


class Ends(NamedTuple):
    """A connection, and who holds it."""

    proxy: FaultProxy
    link: Link
    client: socket.socket
    server: socket.socket


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def listener(stack: ExitStack) -> socket.socket:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(PATIENCE_S)
    return listener


@pytest.fixture
def proxy(stack: ExitStack, listener: socket.socket) -> FaultProxy:
    return stack.enter_context(FaultProxy(listener.getsockname()[1]))


def connect(stack: ExitStack, proxy: FaultProxy, listener: socket.socket) -> Ends:
    address = ("127.0.0.1", proxy.port)
    client = stack.enter_context(socket.create_connection(address, PATIENCE_S))
    server = stack.enter_context(listener.accept()[0])
    server.settimeout(PATIENCE_S)
    return Ends(proxy, proxy.latest, client, server)


@pytest.fixture
def ends(stack: ExitStack, proxy: FaultProxy, listener: socket.socket) -> Ends:
    return connect(stack, proxy, listener)


def receive(sock: socket.socket, count: int) -> bytes:
    """Return that many bytes, or those before a FIN."""
    data = bytearray()
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return bytes(data)


def flood(sock: socket.socket, data: bytes) -> int:
    """Send until nothing more is taken or all has been; return how many bytes."""
    sock.settimeout(BRIEF_S)
    sent = 0
    try:
        while sent < len(data):
            sent += sock.send(data[sent : sent + 65_536])
    except TimeoutError:
        pass
    sock.settimeout(PATIENCE_S)
    return sent


def is_quiet(sock: socket.socket) -> bool:
    """Nothing comes, not even an end, and the connection is established."""
    sock.settimeout(BRIEF_S)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.settimeout(PATIENCE_S)
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state == b"\x01"  # TCP_ESTABLISHED


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_it_passes_everything_on_both_ways(ends: Ends) -> None:
    """20 MB each way at the same time, through a small buffer."""
    data = os.urandom(20_000_000)
    with ThreadPoolExecutor() as pool:
        pool.submit(ends.client.sendall, data)
        pool.submit(ends.server.sendall, data)
        at_client = pool.submit(receive, ends.client, len(data))
        assert receive(ends.server, len(data)) == data
        assert at_client.result() == data
    wait_until(lambda: ends.link.bytes_to_client == len(data))
    wait_until(lambda: ends.link.bytes_to_server == len(data))


def test_a_fin_passes_and_the_other_way_stays_open(ends: Ends) -> None:
    ends.client.sendall(b"question")
    ends.client.shutdown(socket.SHUT_WR)
    assert receive(ends.server, 100) == b"question"
    assert not ends.link.server_gone
    ends.server.sendall(b"answer")
    ends.server.close()
    assert receive(ends.client, 100) == b"answer"
    wait_until(lambda: not ends.link.is_open)
    assert ends.link.server_gone
    assert ends.proxy.links() == []


def test_a_reset_of_one_side_reaches_the_other(
    stack: ExitStack, proxy: FaultProxy, listener: socket.socket
) -> None:
    one, two = (connect(stack, proxy, listener) for _ in range(2))
    reset(one.client)
    with pytest.raises(ConnectionResetError):
        one.server.recv(1)
    reset(two.server)
    with pytest.raises(ConnectionResetError):
        two.client.recv(1)
    assert two.link.server_gone


def test_a_refusal_is_a_reset(proxy: FaultProxy, listener: socket.socket) -> None:
    """Which may come before the client has seen that it is connected."""
    listener.close()
    with pytest.raises(ConnectionResetError):
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_S) as client:
            client.recv(1)
    assert proxy.links() == []


def test_a_client_that_does_not_read_holds_the_server_back(ends: Ends) -> None:
    data = os.urandom(1_000_000) * (FLOOD_BYTES // 1_000_000)
    sent = flood(ends.server, data)
    assert sent < len(data)
    assert receive(ends.client, sent) == data[:sent]


def test_links_are_the_open_ones_in_order(
    stack: ExitStack, proxy: FaultProxy, listener: socket.socket
) -> None:
    assert proxy.links() == []
    with pytest.raises(LookupError):
        _ = proxy.latest
    links = [connect(stack, proxy, listener).link for _ in range(3)]
    assert proxy.links() == links
    links[1].reset()
    assert proxy.links() == [links[0], links[2]]
    links[2].reset()
    assert proxy.latest is links[2]
    links[2].finish()  # and nothing happens
    links[2].pause()


def test_a_paused_link_stalls_the_server_and_loses_nothing(ends: Ends) -> None:
    data = os.urandom(1_000_000) * (FLOOD_BYTES // 1_000_000)
    ends.link.pause()
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    sent = flood(ends.server, data)
    assert sent < 500_000  # two small buffers
    assert ends.link.bytes_to_client == 0
    ends.client.sendall(b"I still write")
    assert receive(ends.server, 13) == b"I still write"
    ends.link.resume()
    assert receive(ends.client, sent) == data[:sent]


def test_a_link_paused_in_a_flood_stalls_the_server(ends: Ends) -> None:
    """Its window had no chance to grow."""
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(flood, ends.server, bytes(FLOOD_BYTES))
        receive(ends.client, 4_000_000)
        ends.link.pause()
        before = ends.link.bytes_to_client
        sent = sending.result()
        assert sent < before + 2_000_000
        ends.link.resume()
        assert len(receive(ends.client, sent - 4_000_000)) == sent - 4_000_000


@pytest.mark.parametrize("fault", ["pause", "go_silent"])
@pytest.mark.parametrize("is_reset", [False, True])
def test_a_server_that_goes_is_noticed_behind_unread_data(
    ends: Ends, fault: str, is_reset: bool
) -> None:
    getattr(ends.link, fault)()
    ends.server.sendall(b"unread")
    assert not ends.link.server_gone
    reset(ends.server) if is_reset else ends.server.close()
    wait_until(lambda: ends.link.server_gone)
    assert is_quiet(ends.client)
    ends.link.resume()
    assert receive(ends.client, 6) == b"unread"
    if is_reset:
        with pytest.raises(ConnectionResetError):
            ends.client.recv(1)
    else:
        assert ends.client.recv(1) == b""


def test_a_trickle_is_one_byte_at_a_time(ends: Ends) -> None:
    ends.link.trickle(NEVER_S)
    for sender, receiver in (ends.client, ends.server), (ends.server, ends.client):
        sender.sendall(b"abc")
        assert receiver.recv(100) == b"a"
        assert is_quiet(receiver)
    assert ends.link.bytes_to_client == ends.link.bytes_to_server == 1
    ends.link.trickle(0)
    assert receive(ends.server, 2) == receive(ends.client, 2) == b"bc"


def test_a_trickle_keeps_order_and_takes_its_time(ends: Ends) -> None:
    data = os.urandom(200)
    ends.link.trickle(0.001)
    started = time.monotonic()
    ends.client.sendall(data)
    ends.client.shutdown(socket.SHUT_WR)
    assert receive(ends.server, 1_000) == data
    assert time.monotonic() - started >= 0.199


def test_a_trickle_without_a_pause_gets_through(ends: Ends) -> None:
    data = os.urandom(5_000)
    ends.link.trickle(0)
    ends.server.sendall(data)
    assert receive(ends.client, len(data)) == data


def test_a_delay_keeps_order_and_content_and_delays_the_end(ends: Ends) -> None:
    """There and back, 1 MB in pieces, then a FIN."""
    data = os.urandom(1_000_000)
    ends.link.delay(0.2)
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        pool.submit(ends.client.sendall, data)
        assert receive(ends.server, len(data)) == data
        assert time.monotonic() - started >= 0.2
        pool.submit(ends.server.sendall, data)
        assert receive(ends.client, len(data)) == data
    assert time.monotonic() - started >= 0.4
    ended = time.monotonic()
    ends.server.close()
    wait_until(lambda: ends.link.server_gone)
    assert ends.client.recv(1) == b""
    assert time.monotonic() - ended >= 0.2


def test_what_has_been_delayed_stays_ahead(ends: Ends) -> None:
    ends.link.delay(0.2)
    ends.client.sendall(b"first, ")
    # Read by the proxy, so it is on its way.
    wait_until(lambda: ends.link._server.held_bytes == 7)
    ends.link.delay(0)
    ends.client.sendall(b"second")
    assert receive(ends.server, 13) == b"first, second"


def test_a_reset_is_seen_on_both_sides(ends: Ends) -> None:
    ends.link.reset()
    for sock in (ends.client, ends.server):
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert not ends.link.is_open
    assert not ends.link.server_gone  # it was us
    ends.link.reset()


def test_a_reset_of_a_stalled_link(ends: Ends) -> None:
    ends.link.pause()
    flood(ends.server, bytes(FLOOD_BYTES))
    ends.link.reset()
    with pytest.raises(ConnectionResetError):
        ends.server.send(b"more")


def test_finish_ends_one_way_and_the_other_goes_on(ends: Ends) -> None:
    ends.client.sendall(b"all")
    assert receive(ends.server, 3) == b"all"
    ends.link.finish()
    ends.client.sendall(b"too late")
    assert ends.server.recv(100) == b""
    ends.server.sendall(b"still read")
    assert receive(ends.client, 10) == b"still read"
    assert not ends.link.server_gone
    ends.server.close()
    assert ends.client.recv(1) == b""
    assert ends.link.server_gone
    assert ends.link.bytes_to_server == 3


def test_finish_in_the_middle_of_something(ends: Ends) -> None:
    ends.link.trickle(NEVER_S)
    ends.client.sendall(b"whole")
    assert ends.server.recv(100) == b"w"
    ends.link.finish()
    assert ends.server.recv(100) == b""


def test_silence_is_half_open(ends: Ends) -> None:
    ends.link.go_silent()
    ends.client.sendall(b"to the server")
    ends.server.sendall(b"to the client")
    assert is_quiet(ends.client)
    assert is_quiet(ends.server)
    assert ends.link.is_open
    assert not ends.link.server_gone
    assert ends.link.bytes_to_client == ends.link.bytes_to_server == 0
    ends.client.close()
    assert is_quiet(ends.server)
    ends.link.resume()
    assert receive(ends.server, 100) == b"to the server"


def test_a_fault_is_of_one_link(
    stack: ExitStack, proxy: FaultProxy, listener: socket.socket
) -> None:
    bad, good = (connect(stack, proxy, listener) for _ in range(2))
    bad.link.go_silent()
    bad.client.sendall(b"lost")
    good.client.sendall(b"fine")
    assert receive(good.server, 4) == b"fine"
    assert is_quiet(bad.server)


@pytest.mark.parametrize("fault", ["pause", "go_silent", "trickle", "finish", "reset"])
def test_it_does_not_spin(ends: Ends, fault: str) -> None:
    """Whatever has ended, it waits: it costs no processor time."""
    getattr(ends.link, fault)()
    ends.client.close()
    ends.server.close()
    ends.proxy.links()
    before = time.process_time()
    with pytest.raises(TimeoutError):
        wait_until(lambda: False, 0.3)
    assert time.process_time() - before < 0.15


def test_it_leaves_no_thread_and_no_socket(
    stack: ExitStack, listener: socket.socket
) -> None:
    """Whatever its links are up to; a leaked socket would warn, and so fail."""
    threads = set(threading.enumerate())
    files = len(os.listdir("/proc/self/fd"))
    with FaultProxy(listener.getsockname()[1]) as proxy:
        faulty = [connect(stack, proxy, listener) for _ in range(5)]
        faulty[0].link.pause()
        faulty[1].link.go_silent()
        faulty[2].link.delay(NEVER_S)
        faulty[3].link.finish()
        for each in faulty:
            each.server.sendall(b"x" * 1_000)
    assert set(threading.enumerate()) == threads
    for each in faulty:
        assert not each.link.is_open
        each.client.close()
        each.server.close()
    assert len(os.listdir("/proc/self/fd")) == files
    with pytest.raises(RuntimeError):
        proxy.links()
