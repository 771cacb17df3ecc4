"""The clients: one process, a plain selector, and no work per frame but counting.

``serve`` reads commands from stdin and answers on stdout, one JSON object a line:

* ``{"do": "connect", "port": …, "clients": …, "stalled": …, "sampled": …}``
* ``{"do": "paced", "messages": …, "size": …, "quiet_s": …}``: one client says
  something, and again when all have heard it.
* ``{"do": "burst", …the same…, "times": …}``: asks the server to publish all of them
  at once; and again when all have come, if it is to be done several times.
* ``{"do": "post", "path": …}``

Not asyncio: its few microseconds for each read would be a load of their own, and on the
paced runs a part of every round trip.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from .serve import stamped

__all__ = ("Load", "Reader", "header_bytes", "masked_frame", "serve")

HOST = "127.0.0.1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3; nobody checks the answer
STAMP_BYTES = 20
READ_BYTES = 262_144
STALLED_BUFFER_BYTES = 4_096


def header_bytes(size: int) -> int:
    """Return how long the header of an unmasked frame is (RFC 6455, section 5.2)."""
    return 2 if size < 126 else 4 if size < 65_536 else 10


def masked_frame(text: str) -> bytes:
    """Return a text frame from a client; the mask is zero, so the payload is plain."""
    size = len(text)
    short = bytes((0x81, 0x80 | size)) if size < 126 else None
    long = b"\x81\xfe" + size.to_bytes(2, "big")
    return (short or long) + bytes(4) + text.encode()


class Reader(Protocol):
    """What looks at the bytes of one client."""

    def feed(self, data: memoryview) -> int:
        """Take what was read, and return how much of what is expected it is."""
        ...


class Sample:
    """A client whose frames are looked at: when was each of them sent?"""

    def __init__(self) -> None:
        self.pending = b""
        self.size = 0
        self.latencies_ns: list[int] = []

    def feed(self, data: memoryview) -> int:
        """Note the age of every frame that is complete; all have the same size."""
        now = time.monotonic_ns()
        self.pending += data
        head, whole = header_bytes(self.size), header_bytes(self.size) + self.size
        while len(self.pending) >= whole:
            stamp = self.pending[head : head + STAMP_BYTES]
            self.latencies_ns.append(now - int(stamp))
            self.pending = self.pending[whole:]
        return len(data)


class Load:
    """All clients of one server.

    They count bytes, which all frames of a run have the same number of; a ``Load`` of
    another protocol overrides what is not private.
    """

    path = "/ws"

    def __init__(self) -> None:
        self.port = 0
        self.clients = 0
        self.lost = 0
        self.received = 0
        self.expected = 0
        self.stalled: list[socket.socket] = []
        self.samples: list[Sample] = []
        self.speaker: socket.socket | None = None
        self.selector = selectors.DefaultSelector()
        self.buffer = bytearray(READ_BYTES)

    def connect(
        self, port: int, clients: int, stalled: int = 0, sampled: int = 0
    ) -> dict[str, Any]:
        """Open all connections; those that stall and the samples are spread evenly."""
        self.port = port
        everybody = clients + stalled
        step = everybody // stalled if stalled else 0
        sockets: list[socket.socket] = []
        for number in range(everybody):
            stalls = bool(step) and number % step == step // 2
            sockets.append(self._ask(STALLED_BUFFER_BYTES if stalls else 0))
            if stalls:
                self.stalled.append(sockets[-1])
            if number % 50 == 49:
                for sock in sockets:
                    self._accepted(sock)
                sockets.clear()
        for sock in sockets:
            self._accepted(sock)
        healthy = [key.fd for key in self.selector.get_map().values()]
        every = max(1, len(healthy) // sampled) if sampled else 0
        chosen = set(healthy[every // 2 :: every]) if every else set[int]()
        for fd in healthy:
            key = self.selector.get_key(fd)
            if key.data is None:
                reader = self.reader(is_sampled=fd in chosen)
                self.selector.modify(key.fileobj, selectors.EVENT_READ, reader)
        self.clients = len(healthy)
        return {"clients": self.clients}

    def greet(self, sock: socket.socket) -> None:
        """Do what a client does first."""

    def reader(self, *, is_sampled: bool) -> Reader | None:
        """Return what looks at a new client's bytes; None to count them only."""
        if not is_sampled:
            return None
        sample = Sample()
        self.samples.append(sample)
        return sample

    def begin(self) -> None:
        """Get ready for a run; all of the last one has come."""

    def units(self, size: int) -> int:
        """Return what one delivery of ``size`` bytes adds to what is received."""
        return header_bytes(size) + size

    def words(self, size: int) -> str:
        """Return a frame with which a client says something of ``size`` bytes."""
        return stamped(size)

    def paced(self, messages: int, size: int, quiet_s: float) -> dict[str, Any]:
        """Let the last client speak; the next message follows when all have heard."""
        assert self.speaker is not None
        speaker = self.speaker

        def drive() -> None:
            for _ in range(messages):
                self._expect(1, size)
                speaker.sendall(masked_frame(self.words(size)))
                if not self._pump(quiet_s):
                    return

        return self._timed(drive, messages, size)

    def burst(
        self, messages: int, size: int, quiet_s: float, times: int = 1
    ) -> dict[str, Any]:
        """Have the server publish as fast as it can, several times."""

        def drive() -> None:
            for _ in range(times):
                self._expect(messages, size)
                asking = self._post(f"/burst?messages={messages}&size={size}")
                asking.setblocking(False)
                self.selector.register(asking, selectors.EVENT_READ, asking)
                is_whole = self._pump(quiet_s)
                if asking.fileno() != -1:
                    self.selector.unregister(asking)
                    asking.close()
                if not is_whole:
                    return

        return self._timed(drive, messages * times, size)

    def post(self, path: str) -> dict[str, Any]:
        """Ask and wait for the answer."""
        with self._post(path) as asking:
            while asking.recv(4_096):
                pass
        return {}

    def _timed(
        self, drive: Callable[[], None], messages: int, size: int
    ) -> dict[str, Any]:
        for sample in self.samples:
            sample.size = size
            sample.latencies_ns.clear()
        self.begin()
        before, start, busy = self.received, time.perf_counter(), time.process_time()
        drive()
        seconds = time.perf_counter() - start
        busy = time.process_time() - busy
        latencies = sorted(ns for each in self.samples for ns in each.latencies_ns)
        return {
            "seconds": seconds,
            "busy": busy / seconds,
            "delivered": (self.received - before) // self.units(size),
            "expected": messages * self.clients,
            "lost": self.lost,
            "p50_ms": percentile(latencies, 0.50) / 1e6,
            "p99_ms": percentile(latencies, 0.99) / 1e6,
        }

    def _expect(self, messages: int, size: int) -> None:
        self.expected += messages * self.clients * self.units(size)

    def _pump(self, quiet_s: float) -> bool:
        """Read until all that is expected has come; False if nothing comes any more."""
        select, buffer = self.selector.select, memoryview(self.buffer)
        while self.received < self.expected:
            ready = select(quiet_s)
            if not ready:
                return False
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    count = sock.recv_into(buffer)
                except ConnectionError:
                    count = 0
                if not count:
                    self.selector.unregister(sock)
                    sock.close()
                    self.lost += key.data is not sock
                elif key.data is None:
                    self.received += count
                elif key.data is not sock:  # that one answers a POST
                    self.received += key.data.feed(buffer[:count])
        return True

    def _ask(self, buffer_bytes: int) -> socket.socket:
        sock = socket.socket()
        if buffer_bytes:  # before connect, or the window is scaled already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.connect((HOST, self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(
            f"GET {self.path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        return sock

    def _accepted(self, sock: socket.socket) -> None:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            data = sock.recv(1_024)
            if not data:
                raise ConnectionError(f"refused: {answer!r}")
            answer += data
        if not answer.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"refused: {answer!r}")
        self.greet(sock)
        if sock not in self.stalled:
            self.speaker = sock
            self.selector.register(sock, selectors.EVENT_READ)

    def _post(self, path: str) -> socket.socket:
        sock = socket.create_connection((HOST, self.port))
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        return sock


def percentile(ordered: list[int], share: float) -> float:
    """Return the value that ``share`` of all do not exceed; nan of none."""
    return ordered[int(share * (len(ordered) - 1))] if ordered else float("nan")


def serve(load: Load) -> None:
    """Do what stdin says, until it ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(load, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Load())
