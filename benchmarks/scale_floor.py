"""The floor: a WebSocket server that does nothing but send, without an event loop.

``python -m benchmarks.scale_floor FD``, where FD is a listening socket that was
inherited. As with ``/ws`` of ``benchmarks.serve``, what a client says goes to all. On
loopback the receiver's part of TCP is done inside the sender's call, and counts as the
server's time: no server has less than this one.
"""

from __future__ import annotations

import os
import resource
import selectors
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from adapters.hosting.hardening.frames import frame_of

from .rig import ROOT, Rig

__all__ = ("open_floor",)

HOST = "127.0.0.1"
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"  # our clients look no further
READ_BYTES = 65_536
MASK_BYTES = 4  # all zero: what our clients say is plain


@contextmanager
def open_floor() -> Generator[Rig, None, None]:
    """Run it and a process for its clients, as ``open_rig`` does with other servers."""
    with socket.create_server((HOST, 0), backlog=1_024) as listener:
        fd = listener.fileno()
        python = (sys.executable, "-m")
        pipe = subprocess.PIPE
        with (
            subprocess.Popen(
                (*python, "benchmarks.scale_floor", str(fd)), cwd=ROOT, pass_fds=(fd,)
            ) as server,
            subprocess.Popen(
                (*python, "benchmarks.load"), cwd=ROOT, stdin=pipe, stdout=pipe
            ) as clients,
        ):
            try:
                if hasattr(os, "sched_setaffinity"):
                    cores = sorted(os.sched_getaffinity(0))
                    os.sched_setaffinity(server.pid, {cores[0]})
                    os.sched_setaffinity(clients.pid, {cores[-1]})
                yield Rig(server, clients, listener.getsockname()[1])
            finally:
                server.kill()
                clients.kill()


class Floor:
    """All clients of one listening socket."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._clients: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until the process is killed."""
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._listener:
                    self._accept()
                else:
                    self._broadcast(sock.recv(READ_BYTES))

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not sock.recv(READ_BYTES).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(ANSWER)
        sock.setblocking(False)
        self._clients.append(sock)
        self._selector.register(sock, selectors.EVENT_READ)

    def _broadcast(self, said: bytes) -> None:
        """Send all what one has said in a frame (RFC 6455, section 5.2)."""
        assert said, "clients stay until the benchmark is over"
        head = 2 if said[1] & 0x7F < 126 else 4
        frame = frame_of(said[head + MASK_BYTES :].decode())
        for sock in self._clients:
            sock.send(frame)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 16_384), most))
    Floor(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
