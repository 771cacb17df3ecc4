"""What each patch of hypercorn promises, on real servers and sockets."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode

from tests.e2e.clients import reset
from tests.hosting.clients import HardServer, frame, handshake, read_all, started
from tests.hosting.server import NUMBERS, PADDING
from tests.serving import PATIENCE_S, wait_until

pytestmark = pytest.mark.e2e

LOOPS = ["asyncio", "uvloop", "trio"]
# To see a test red: the same server without the hardening.
BARE = ("--bare",) if os.environ.get("BARE_HYPERCORN") else ()
SCOPE: Literal["function", "module"] = "function" if BARE else "module"  # it may die
SLACK_KIB = 16 * 1024
MIB = 1_048_576
CUT = r"reset|without response"
PROMPTLY_S = 6.0  # a linger of 2 s, and two slow cores


@pytest.fixture(scope=SCOPE, params=LOOPS)
def shared(request: pytest.FixtureRequest) -> Iterator[HardServer]:
    with started(request.param, *BARE) as server:
        yield server


@pytest.fixture(scope=SCOPE, params=LOOPS)
def deflating(request: pytest.FixtureRequest) -> Iterator[HardServer]:
    with started(request.param, *BARE, "--compression") as server:
        before = server.vitals()
        yield server
        wait_until(lambda: is_as_before(server, before), PROMPTLY_S)


def settled(server: HardServer) -> dict[str, int]:
    wait_until(lambda: server.vitals()["connections"] <= 1, PROMPTLY_S)
    return server.vitals()


@pytest.fixture
def server(shared: HardServer) -> Iterator[HardServer]:
    """Others are served meanwhile, and nothing is left afterwards."""
    yield from watched(shared)


@pytest.fixture
def deflater(deflating: HardServer) -> Iterator[HardServer]:
    yield from watched(deflating)


def watched(server: HardServer) -> Iterator[HardServer]:
    before = settled(server)
    logged = len(server.log())
    with server.connect() as witness:
        yield server
        witness.send("still here")
        assert witness.recv(timeout=PATIENCE_S) == "still here"
    wait_until(lambda: is_as_before(server, before), PROMPTLY_S)
    assert "Traceback" not in server.log()[logged:]


def is_as_before(server: HardServer, before: dict[str, int]) -> bool:
    after = server.vitals()
    return all(after[name] <= before[name] for name in ("tasks", "files"))


def code_in(answer: bytes) -> int:
    """Return the code of the close frame that an answer consists of."""
    assert answer[:1] == b"\x88", answer
    code: int = struct.unpack("!H", answer[2:4])[0]
    return code


def is_cut(sock: socket.socket) -> bool:
    """Say whether the server has given the connection up, without reading."""
    tcp_info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return tcp_info[0] != 1  # TCP_ESTABLISHED


BAD_HEADERS = [
    b"Sec-WebSocket-Protocol: \xff\r\n",
    b"Sec-WebSocket-Extensions: \xff\r\n",
    b"Connection: Upgrade, \xff\r\n",
]


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_a_malformed_handshake_is_refused(server: HardServer, header: bytes) -> None:
    with server.raw(handshake(more=header)) as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "lines",
    [
        b"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\n",
        b"Sec-WebSocket-Version: 13\r\n",
    ],
)
def test_an_invalid_handshake_is_refused(server: HardServer, lines: bytes) -> None:
    """And its connection closed, though the client says nothing more."""
    request = b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    with server.raw(request + b"Connection: upgrade\r\n" + lines + b"\r\n") as sock:
        sock.settimeout(PROMPTLY_S)
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def test_a_fault_ends_its_own_connection_alone(server: HardServer) -> None:
    """A Host that hypercorn cannot read is one."""
    before = server.vitals()["faults"]
    logged = len(server.log())
    with server.raw(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n") as sock:
        assert read_all(sock) == b""
    assert server.vitals()["faults"] == before + 1
    assert server.log()[logged:].count("\n") == 1


def test_an_unknown_host_is_refused(server: HardServer) -> None:
    with server.raw(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n") as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 404 ")


def test_an_accept_that_fails_is_an_error_of_the_application(
    shared: HardServer,
) -> None:
    before = settled(shared)["faults"]
    with shared.raw(handshake("/subprotocol")) as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 500 ")
    assert settled(shared)["faults"] == before


@pytest.mark.parametrize("path", ["/cancelled", "/cancelled-natively"])
def test_a_cancelled_send_cuts_the_connection(server: HardServer, path: str) -> None:
    """And the application is told, while the client still does not read."""
    told = server.seen("disconnected")
    with server.accepted(path, buffer_bytes=8_192) as sock:
        wait_until(lambda: server.seen("disconnected") == told + 1, PROMPTLY_S)
        wait_until(lambda: is_cut(sock), PROMPTLY_S)


def test_returning_before_a_stalled_client_ends_it(server: HardServer) -> None:
    with server.accepted("/stalled-return", buffer_bytes=8_192) as sock:
        wait_until(lambda: is_cut(sock), PROMPTLY_S)


def test_two_senders_keep_their_order(server: HardServer) -> None:
    """While the socket is full and while it is not."""
    with server.connect("/two-senders", max_size=None) as client:
        got = [client.recv(timeout=PATIENCE_S) for _ in range(2 * NUMBERS)]
    texts = [each if isinstance(each, str) else each.decode() for each in got]
    for sender in "01":
        numbers = [text.split()[1] for text in texts if text.split()[0] == sender]
        assert numbers == [str(number) for number in range(NUMBERS)]
    for text, payload in zip(texts, got, strict=True):
        is_odd = int(text.split()[1]) % 2 == 1
        assert isinstance(payload, bytes) == is_odd
        assert (len(payload) > PADDING) == is_odd


def test_who_waits_to_send_takes_no_memory(server: HardServer) -> None:
    """A hundred senders of the same megabyte, to a client that does not read."""
    before, waiting = server.vitals()["rss_kib"], server.seen("many wait")
    with server.accepted("/many-senders", buffer_bytes=8_192):
        wait_until(lambda: server.seen("many wait") == waiting + 1, PROMPTLY_S)
        assert server.vitals()["rss_kib"] < before + SLACK_KIB


def test_a_payload_that_cannot_be_sent_is_an_error_of_the_application(
    server: HardServer,
) -> None:
    """And nothing is sent; what may still change is sent as it is now."""
    mistakes = server.seen("TypeError"), server.seen("UnicodeEncodeError")
    with server.connect("/mistaken") as client:
        assert client.recv(timeout=PATIENCE_S) == b"mutable"
        assert client.recv(timeout=PATIENCE_S) == b"changed"
    assert server.seen("TypeError") == mistakes[0] + 2
    assert server.seen("UnicodeEncodeError") == mistakes[1] + 1


def test_sending_after_close_is_an_error_of_the_application(server: HardServer) -> None:
    """And nothing comes after the close frame."""
    mistakes = server.seen("too late")
    with server.accepted("/after-close") as sock:
        assert code_in(sock.recv(4)) == 1000
        wait_until(lambda: server.seen("too late") == mistakes + 1, PROMPTLY_S)
        sock.sendall(frame(Opcode.CLOSE, struct.pack("!H", 1000)))
        assert read_all(sock) == b""


def test_who_only_sends_to_a_lost_client_lets_others_run(server: HardServer) -> None:
    ran, told = server.seen("others ran"), server.seen("disconnected")
    with server.accepted("/only-sends") as sock:
        reset(sock)
    wait_until(lambda: server.seen("disconnected") == told + 1, PROMPTLY_S)
    assert server.seen("others ran") == ran + 1


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_huge_message_takes_no_memory(server: HardServer, opcode: Opcode) -> None:
    before = server.vitals()["rss_kib"]
    told = server.seen("code 1009")
    header = bytes([0x80 | opcode, 0xFF]) + struct.pack("!Q", 96 * MIB) + bytes(4)
    # Two bytes of UTF-8 a character, so that characters would be half of it.
    chunk = "é".encode() * 32_768
    with server.accepted() as sock:
        sock.sendall(header)
        try:
            for _ in range(96 * 16):
                sock.sendall(chunk)
        except OSError:
            pass  # cut after the linger
        else:
            assert code_in(read_all(sock)) == 1009
        wait_until(lambda: server.seen("code 1009") == told + 1, PROMPTLY_S)
        after = server.vitals()
    assert after["rss_kib"] - before < SLACK_KIB


def test_the_limit_counts_bytes_of_text(server: HardServer) -> None:
    fits = "é" * (MIB // 2)
    with server.connect(max_size=None) as client:
        client.send(fits)
        assert client.recv(timeout=PATIENCE_S) == fits
        client.send(fits + "x")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_fragments_beyond_the_limit(server: HardServer) -> None:
    with server.accepted() as sock:
        sock.sendall(frame(Opcode.BINARY, bytes(MIB), fin=False))
        sock.sendall(frame(Opcode.CONT, b"x", fin=False))
        assert code_in(read_all(sock)) == 1009


def test_a_client_that_does_not_stop_sending_is_cut(server: HardServer) -> None:
    """After the close frame, which it does read."""
    told = server.seen("disconnected")
    with server.accepted() as sock:
        sock.sendall(frame(Opcode.BINARY, bytes(MIB + 1)))
        assert code_in(sock.recv(100)) == 1009

        def send_on() -> None:
            try:
                while True:
                    sock.sendall(frame(Opcode.BINARY, b"more"))
                    time.sleep(0.01)
            except OSError:
                pass

        sender = threading.Thread(target=send_on)
        sender.start()
        sender.join(PROMPTLY_S)
        assert not sender.is_alive()
        wait_until(lambda: server.seen("disconnected") == told + 1, PROMPTLY_S)


def test_compression_is_off(server: HardServer) -> None:
    with server.connect(compression="deflate") as client:
        assert not client.protocol.extensions


OFFERS = [
    b"permessage-deflate; client_max_window_bits=abc",
    b"permessage-deflate; server_max_window_bits=99",
    b"permessage-deflate; client_max_window_bits=10; server_max_window_bits=x",
]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_bad_offer_is_declined(deflater: HardServer, offer: bytes) -> None:
    header = b"Sec-WebSocket-Extensions: " + offer + b"\r\n"
    with deflater.raw(handshake(more=header)) as sock:
        answer = sock.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"permessage-deflate" not in answer.lower()


@pytest.mark.parametrize(
    "factory",
    [
        ClientPerMessageDeflateFactory(),
        ClientPerMessageDeflateFactory(client_no_context_takeover=True),
        ClientPerMessageDeflateFactory(server_no_context_takeover=True),
        ClientPerMessageDeflateFactory(
            client_max_window_bits=9, server_max_window_bits=9
        ),
    ],
)
def test_compression_works(
    deflater: HardServer, factory: ClientPerMessageDeflateFactory
) -> None:
    with deflater.connect(extensions=[factory], max_size=None) as client:
        assert client.protocol.extensions
        for text in ["one", "x" * MIB, "", "é" * 1000, "one"]:
            client.send(text)
            client.ping()
            assert client.recv(timeout=PATIENCE_S) == text
        client.send(iter(["frag", "men", "ted"]))
        assert client.recv(timeout=PATIENCE_S) == "fragmented"


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


def deflated_client(server: HardServer) -> socket.socket:
    sock = server.raw(handshake(more=DEFLATE))
    assert b"permessage-deflate" in sock.recv(4_096)
    return sock


def test_a_ping_within_a_compressed_message(deflater: HardServer) -> None:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(b"whole") + compressor.flush(zlib.Z_SYNC_FLUSH)
    with deflated_client(deflater) as sock:
        sock.sendall(frame(Opcode.TEXT, data[:3], fin=False, is_deflated=True))
        sock.sendall(frame(Opcode.PING, b"") + frame(Opcode.CONT, data[3:-4]))
        assert sock.recv(2, socket.MSG_WAITALL) == b"\x8a\x00"
        head = sock.recv(2, socket.MSG_WAITALL)
        answer = sock.recv(head[1], socket.MSG_WAITALL)
        inflater = zlib.decompressobj(-15)
        assert inflater.decompress(answer + b"\0\0\xff\xff") == b"whole"


def test_an_inflating_message_takes_no_memory(deflater: HardServer) -> None:
    compressor = zlib.compressobj(9, wbits=-15)
    data = compressor.compress(bytes(200 * MIB))
    data += compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    before = deflater.vitals()
    with deflated_client(deflater) as sock:
        sock.sendall(frame(Opcode.BINARY, data, is_deflated=True))
        assert code_in(read_all(sock)) == 1009
    after = deflater.vitals()
    assert after["rss_kib"] - before["rss_kib"] < SLACK_KIB
    assert after["peak_kib"] - before["peak_kib"] < SLACK_KIB


def test_data_behind_the_end_of_a_compressed_stream(deflater: HardServer) -> None:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(b"last") + compressor.flush(zlib.Z_FINISH)
    with deflated_client(deflater) as sock:
        for _ in range(2):  # a last block is allowed, and does not end the stream
            sock.sendall(frame(Opcode.TEXT, data + b"\0", is_deflated=True))
            assert sock.recv(1, socket.MSG_WAITALL) == b"\xc1"
            sock.recv(sock.recv(1)[0], socket.MSG_WAITALL)
        sock.sendall(frame(Opcode.TEXT, data + bytes(100), is_deflated=True))
        assert code_in(read_all(sock)) == 1007


@pytest.mark.parametrize("path", ["/late", "/echo"])
def test_data_behind_the_upgrade_request(server: HardServer, path: str) -> None:
    before = server.vitals()["seen"]
    with server.raw(handshake(path) + frame(Opcode.TEXT, b"early")) as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")
        wait_until(
            lambda: server.seen("finished") == server.seen("started") - 1, PROMPTLY_S
        )
    after = server.vitals()["seen"]
    assert after["disconnected"] == before.get("disconnected", 0) + 1


def test_an_application_that_returns_with_messages_unread(server: HardServer) -> None:
    socks = [server.accepted("/deaf") for _ in range(5)]
    for sock in socks:
        for _ in range(30):
            sock.sendall(frame(Opcode.TEXT, b"unread"))
    for sock in socks:
        assert code_in(read_all(sock)) == 1008
        sock.close()


def test_a_body_that_nobody_reads(server: HardServer) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server.raw(head) as sock:
        try:
            for _ in range(200):
                sock.sendall(b"4\r\nbody\r\n")
        except OSError:
            pass
        assert read_all(sock).startswith(b"HTTP/1.1 200 ")


VIOLATIONS = {
    "bad UTF-8": (frame(Opcode.TEXT, b"\xff\xfe"), 1007),
    "reserved opcode": (b"\x83\x80\0\0\0\0", 1002),
    "reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "unmasked": (b"\x81\x02hi", 1002),
    "stray continuation": (frame(Opcode.CONT, b"of nothing"), 1002),
    "long control frame": (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),
    "short close": (b"\x88\x81\0\0\0\0x", 1002),
    "close with a bad code": (frame(Opcode.CLOSE, b"\x03\xed"), 1002),
    "close with bad UTF-8": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_violation_is_answered(server: HardServer, kind: str) -> None:
    data, code = VIOLATIONS[kind]
    told = server.seen(f"code {code}")
    with server.accepted() as sock:
        sock.sendall(data)
        answer = read_all(sock)
        assert code_in(answer) == code
        assert len(answer) > 4  # a reason
        wait_until(lambda: server.seen(f"code {code}") == told + 1, PROMPTLY_S)


def test_a_violation_of_a_client_that_does_not_read(server: HardServer) -> None:
    """It is not waited for until it reads the close frame."""
    told = server.seen("code 1002")
    with server.accepted("/filling", buffer_bytes=8_192) as sock:
        sock.sendall(frame(Opcode.CONT, b"of nothing"))
        wait_until(lambda: server.seen("code 1002") == told + 1, PROMPTLY_S)
        wait_until(lambda: is_cut(sock), PROMPTLY_S)


def test_a_client_that_leaves_a_full_queue_behind(server: HardServer) -> None:
    """The application waits to send, with more unread than hypercorn queues."""
    told = server.seen("disconnected")
    with server.accepted(buffer_bytes=8_192) as sock:
        sock.setblocking(False)
        message = frame(Opcode.BINARY, bytes(MIB // 2))
        stuck_since = time.monotonic()
        while time.monotonic() < stuck_since + 0.5:
            try:
                sent = sock.send(message)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            stuck_since = time.monotonic()
            message = message[sent:] or frame(Opcode.BINARY, bytes(MIB // 2))
    wait_until(lambda: server.seen("disconnected") == told + 1, PROMPTLY_S)


HTTP_2 = {
    "prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "h2c": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n"
    b"Connection: Upgrade, HTTP2-Settings, close\r\n\r\n",
}


@pytest.mark.parametrize("kind", HTTP_2)
def test_http_2_is_not_spoken(server: HardServer, kind: str) -> None:
    with server.raw(HTTP_2[kind]) as sock:
        answer = read_all(sock)
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 4", b"HTTP/1.1 505 "))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 2"
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(params=LOOPS)
def tls(
    request: pytest.FixtureRequest, certificate: tuple[str, str]
) -> Iterator[HardServer]:
    with started(request.param, *BARE, "--tls", *certificate) as server:
        yield server


def test_http_2_is_not_negotiated(tls: HardServer) -> None:
    with tls.secured() as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        sock.sendall(handshake())
        assert sock.recv(1_000).startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"\x81\x02hi")
        assert code_in(sock.recv(100)) == 1002


def test_connections_with_tls_leave_nothing_and_are_cut(tls: HardServer) -> None:
    before = tls.vitals()["connections"]
    for is_polite in (True, False) * 5:
        with tls.secured() as sock:
            sock.sendall(handshake())
            assert sock.recv(1_000).startswith(b"HTTP/1.1 101 ")
            if is_polite:
                sock.sendall(frame(Opcode.CLOSE, b""))
                read_all(sock)
    wait_until(lambda: tls.vitals()["connections"] == before, PROMPTLY_S)
    assert tls.vitals()["faults"] == 0
    assert "Traceback" not in tls.log()
    with tls.secured() as sock:
        sock.sendall(handshake())
        sock.recv(1_000)
        with pytest.raises(OSError, match=CUT):
            tls.vitals("/abort")  # is one of them
        wait_until(lambda: is_cut(sock), PROMPTLY_S)


def test_clients_that_come_together_are_probed_at_times_of_their_own(
    server: HardServer,
) -> None:
    with socket.socket() as other:
        usual_s = other.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(server.accepted())
        found_s = server.vitals()["probe_times"]
    assert len(set(found_s)) > 3, found_s
    assert all(usual_s / 2 <= each_s <= usual_s for each_s in found_s)


@pytest.mark.parametrize("loop", LOOPS)
def test_all_connections_are_cut_at_once(loop: str) -> None:
    with started(loop, *BARE) as server:
        socks = [server.accepted() for _ in range(5)]
        with pytest.raises(OSError, match=CUT):
            server.vitals("/abort")  # is one of them
        for sock in socks:
            wait_until(lambda sock=sock: is_cut(sock))  # type: ignore[misc] # bound
            sock.close()
        with pytest.raises(OSError, match=CUT):
            server.vitals()


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_bytes(deflating: HardServer, data: st.DataObject) -> None:
    """Nonsense, before and after the handshake: the process serves others."""
    good = handshake(more=DEFLATE)
    kind = data.draw(st.sampled_from(["raw", "frames", "mutated"]))
    if kind == "raw":
        sent = data.draw(st.binary(max_size=200))
    elif kind == "frames":
        sent = data.draw(st.binary(max_size=200))
        head = data.draw(st.sampled_from([b"", b"\x81\xfe", b"\xc1\x85", b"\x89\x80"]))
        sent = head + sent
    else:
        at = data.draw(st.integers(0, len(good)))
        gone = data.draw(st.integers(0, 3))
        sent = good[:at] + data.draw(st.binary(max_size=8)) + good[at + gone :]
    try:
        with deflating.raw(good if kind == "frames" else b"") as sock:
            if kind == "frames":
                assert sock.recv(4_096).startswith(b"HTTP/1.1 101 ")
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
    except OSError:
        pass
    assert deflating.answers()
