"""A TCP proxy on loopback that breaks connections on demand. Linux."""

from __future__ import annotations

import math
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from tests.serving import PATIENCE_S

__all__ = ("FaultProxy", "Link")

CHUNK_BYTES = 65_536
MAX_HELD_BYTES = 1_048_576  # on the way to one side; then TCP holds the other back
BUFFER_BYTES = 16_384  # of the kernel for what the server sends; it takes twice that
RESET = struct.pack("ii", 1, 0)  # what a socket that lingers so does on close


class FaultProxy:
    """Forwards TCP connections to a server on loopback, and breaks them on demand.

    Left to itself it is transparent: back-pressure, half-closed connections, resets
    and refusals pass through. One thread owns all sockets; methods, of links too, may
    be called from any other, inside the ``with`` block, and have happened on return.
    Its ``port`` is a free one; the argument is the server's.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._links: list[Link] = []
        self._calls: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._stopping = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="fault proxy")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._listener, self._wake, self._woken:
            self._stopping = True
            self._wake.send(b"\0")
            self._thread.join()
        for link in self._links:
            link._close()

    def links(self) -> list[Link]:
        """Return the connections that are open, oldest first."""
        self._call(self._accept)  # whoever has connected is among them
        return [link for link in self._links if link.is_open]

    @property
    def latest(self) -> Link:
        """The connection made last, open or not. Raises IndexError if none was."""
        self._call(self._accept)
        return self._links[-1]

    def _call(self, function: Callable[[], None]) -> None:
        # While it does not poll: a socket closed during a poll stays open until then.
        if self._stopping or not self._thread.is_alive():
            raise RuntimeError("the proxy does not run")
        self._calls.append((function, done := threading.Event()))
        self._wake.send(b"\0")
        assert done.wait(PATIENCE_S)

    def _run(self) -> None:
        while not self._stopping:
            poller, now, wait_s = select.poll(), time.monotonic(), 60.0
            poller.register(self._listener, select.POLLIN)
            poller.register(self._woken, select.POLLIN)
            ends: dict[int, tuple[Link, _End]] = {}
            for link in filter(lambda link: link.is_open, self._links):
                for end in (link._client, link._server):
                    mask, due_in = link._interest(end, now)
                    wait_s = min(wait_s, due_in)
                    if mask or not end.hung:
                        poller.register(end.sock, mask)
                        ends[end.sock.fileno()] = link, end
            for number, events in poller.poll(math.ceil(wait_s * 1_000)):
                if number in ends:
                    link, end = ends[number]
                    link._handle(end, events)
                elif number == self._woken.fileno():
                    self._woken.recv(CHUNK_BYTES)
            self._accept()
            while self._calls:
                function, done = self._calls.popleft()
                function()
                done.set()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket()
                # Before it connects: TCP does not take back a window once offered.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                for sock in (client, server):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._links.append(Link(self, _End(client), _End(server)))
                server.connect_ex(("127.0.0.1", self._server_port))


class _End:
    """One of the two sockets of a link, and what is on the way to it."""

    peer: _End

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        # (when due, what), in order; empty for a FIN, None for a reset
        self.held: deque[tuple[float, memoryview | None]] = deque()
        self.held_bytes = 0
        self.sent_at = -math.inf
        self.finished = False  # we have sent our FIN
        self.gone = False  # its FIN or a reset has been seen
        self.broken = False  # by a reset
        self.hung = False  # polling has nothing to add, and would spin
        self.ended = False  # there is nothing more to read


class Link:
    """One connection through the proxy. What is done to a closed one has no effect."""

    def __init__(self, proxy: FaultProxy, client: _End, server: _End) -> None:
        self.is_open = True
        self.bytes_to_client = self.bytes_to_server = 0
        self._proxy = proxy
        self._client = server.peer = client
        self._server = client.peer = server
        self._paused: _End | None = None  # not read from
        self._silent = False
        self._trickle_s: float | None = None
        self._delay_s = 0.0

    @property
    def server_gone(self) -> bool:
        """Its FIN or reset has arrived, read or not. A FIN comes behind all data."""
        return self._server.gone

    def pause(self) -> None:
        """Stop reading from the server, like a client that stalls."""
        self._change(_paused=self._server)

    def resume(self) -> None:
        """Undo ``pause`` and ``go_silent``."""
        self._change(_paused=None, _silent=False)

    def trickle(self, pause_s: float = 0.001) -> None:
        """Send single bytes, so far apart (s, >= 0); a slow reader gets them joined."""
        self._change(_trickle_s=pause_s)

    def delay(self, seconds: float) -> None:
        """Let all that is read from now on arrive that much later (s), in order."""
        self._change(_delay_s=seconds)

    def go_silent(self) -> None:
        """Read and pass on nothing; the kernel still acknowledges. Half-open."""
        self._change(_silent=True)

    def reset(self) -> None:
        """Send a reset to both sides at once, and close the link."""
        self._proxy._call(lambda: self._close(reset=True))

    def finish(self) -> None:
        """Send a FIN to the server at once; drop what is or comes from the client."""
        self._proxy._call(lambda: self._finish(self._server))

    def _change(self, **changes: Any) -> None:
        self._proxy._call(lambda: vars(self).update(changes))

    def _interest(self, end: _End, now: float) -> tuple[int, float]:
        """Return what to poll for, and in how many seconds that changes by itself."""
        mask = 0 if end.gone else select.POLLRDHUP
        if self._silent:
            return mask, math.inf
        stalls = end.peer.held_bytes >= MAX_HELD_BYTES or end is self._paused
        mask |= 0 if end.ended or stalls else select.POLLIN
        due_at = end.held[0][0] if end.held else math.inf
        due_in = max(due_at, end.sent_at + (self._trickle_s or 0)) - now
        return (mask, due_in) if due_in > 0 else (mask | select.POLLOUT, math.inf)

    def _handle(self, end: _End, events: int) -> None:
        end.broken |= bool(events & select.POLLERR)
        end.hung |= bool(events & (select.POLLERR | select.POLLHUP))
        end.gone |= end.hung or bool(events & select.POLLRDHUP)
        if self.is_open and events & select.POLLIN:
            self._read(end)
        if self.is_open and events & select.POLLOUT:
            self._write(end)

    def _read(self, end: _End) -> None:
        try:
            data = end.sock.recv(CHUNK_BYTES)
        except OSError:
            data, end.broken = b"", True
        end.ended = not data
        what = None if end.broken and end.ended else memoryview(data)
        end.peer.held.append((time.monotonic() + self._delay_s, what))
        end.peer.held_bytes += len(data)

    def _write(self, end: _End) -> None:
        due_at, data = end.held[0]
        if data is None:
            self._close(reset=True)
            return
        done = len(data)  # dropped, if nobody can have it
        if not data:
            self._finish(end)
        elif not (end.finished or end.broken):
            try:
                done = end.sock.send(data if self._trickle_s is None else data[:1])
                end.sent_at = time.monotonic()
                if end is self._client:
                    self.bytes_to_client += done
                else:
                    self.bytes_to_server += done
            except OSError:  # the other side learns it when this one has been read
                end.broken = end.gone = True
        end.held_bytes -= done
        end.held[0] = due_at, data[done:]
        if done == len(data):
            end.held.popleft()

    def _finish(self, end: _End) -> None:
        end.finished = True
        with suppress(OSError):  # it is gone
            end.sock.shutdown(socket.SHUT_WR)
        if self._client.finished and self._server.finished:
            self._close()

    def _close(self, *, reset: bool = False) -> None:
        self.is_open = False
        for sock in (self._client.sock, self._server.sock):
            if reset and sock.fileno() != -1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
