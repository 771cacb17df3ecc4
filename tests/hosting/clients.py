"""A server process of this folder, and clients that do only what they are told."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from tests.serving import wait_until

__all__ = ("HardServer", "frame", "handshake", "read_all", "started")

SOCKET_PATIENCE_S = 6.0
ROOT = Path(__file__).parents[2]
TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE
TRUSTING.set_alpn_protocols(["h2", "http/1.1"])


class HardServer:
    """A running server; ``started`` makes one."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log: Any, *, is_tls: bool
    ) -> None:
        self.process = process
        self.port = port
        self._log = log
        self._is_tls = is_tls

    def vitals(self, path: str = "/") -> dict[str, Any]:
        """Return what the server says about itself."""
        url = f"http{'s' * self._is_tls}://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(
            url, timeout=SOCKET_PATIENCE_S, context=TRUSTING if self._is_tls else None
        ) as response:
            numbers: dict[str, Any] = json.load(response)
        return numbers

    def answers(self) -> bool:
        """Return whether it serves; raises if its process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the server has ended:\n{self.log()}")
        try:
            self.vitals()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def seen(self, what: str) -> int:
        """Return how often the applications were told or did something."""
        return int(self.vitals()["seen"].get(what, 0))

    def log(self) -> str:
        """Return what it has printed."""
        self._log.seek(0)
        return str(self._log.read().decode(errors="replace"))

    def raw(self, data: bytes = b"", buffer_bytes: int = 0) -> socket.socket:
        """Connect, and send something."""
        sock = socket.socket()
        sock.settimeout(SOCKET_PATIENCE_S)
        if buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        try:
            sock.connect(("127.0.0.1", self.port))
            sock.sendall(data)
        except BaseException:
            sock.close()
            raise
        return sock

    def secured(self) -> ssl.SSLSocket:
        """Connect with TLS, offering HTTP/2."""
        raw = self.raw()
        try:
            return TRUSTING.wrap_socket(raw)
        except BaseException:
            raw.close()
            raise

    def accepted(self, path: str = "/echo", buffer_bytes: int = 0) -> socket.socket:
        """Connect a WebSocket that does not read by itself."""
        sock = self.raw(handshake(path), buffer_bytes)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")
        return sock

    def connect(self, path: str = "/echo", **options: Any) -> ClientConnection:
        """Connect an independent client; use it in ``with``."""
        url = f"ws://127.0.0.1:{self.port}{path}"
        options.setdefault("compression", None)
        connection: ClientConnection = connect(url, proxy=None, **options)
        return connection


@contextmanager
def started(loop: str, *options: str) -> Iterator[HardServer]:
    """Start a server; it must live until it is told to end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.hosting.server", loop, str(port), *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        server = HardServer(process, port, log, is_tls="--tls" in options)
        try:
            wait_until(server.answers)
            yield server
            assert process.poll() is None, server.log()
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def handshake(path: str = "/echo", more: bytes = b"") -> bytes:
    """Return a request for a WebSocket, with more header lines."""
    return (
        b"GET " + path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + b"\r\n"
    )


def frame(
    opcode: Opcode, data: bytes, *, fin: bool = True, is_deflated: bool = False
) -> bytes:
    """Return a client's frame."""
    first, *others = Frame(opcode, data, fin=fin).serialize(mask=True)
    return bytes([first | 0x40 * is_deflated, *others])


def read_all(sock: socket.socket) -> bytes:
    """Read until the server hangs up."""
    got = b""
    try:
        while data := sock.recv(65_536):
            got += data
    except ConnectionResetError:
        pass
    return got
