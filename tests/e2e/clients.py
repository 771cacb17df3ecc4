"""What the end-to-end tests look at, and clients that do only what they are told."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.serving import PATIENCE_S, Server, wait_until

__all__ = (
    "handshake",
    "listen",
    "raw_client",
    "reset",
    "resting",
    "text_frame",
    "vitals",
    "wait_at_rest",
    "wait_sessions",
)

OF_THE_PROCESS = ("tasks", "files")
OF_A_BROKER = ("sessions", "queued_bytes", "topics", "waiting")


def vitals(server: Server) -> dict[str, Any]:
    """Return what the server says about itself."""
    numbers: dict[str, Any] = server.get("/").json()
    return numbers


def resting(server: Server) -> dict[str, Any]:
    """Return the least tasks and files of a server without clients."""
    # The connection of one request may still be closing during the next.
    several = [vitals(server) for _ in range(3)]
    return {name: min(each[name] for each in several) for name in OF_THE_PROCESS}


def remains(server: Server, before: dict[str, Any]) -> dict[str, Any]:
    """Return what is left of clients, {name: how much}; empty when all is gone."""
    now = vitals(server)
    more = {name: now[name] - before[name] for name in OF_THE_PROCESS}
    for broker in ("ours", "quiet", "small"):
        numbers = now if broker == "ours" else now[broker]
        more |= {f"{name} of {broker}": numbers[name] for name in OF_A_BROKER}
    return {name: many for name, many in more.items() if many > 0}


def wait_at_rest(server: Server, before: dict[str, Any]) -> None:
    """Wait until nothing is left of any client; fails with what is."""
    try:
        wait_until(lambda: not remains(server, before))
    except TimeoutError:
        raise AssertionError(f"left: {remains(server, before)}") from None


def handshake(path: str) -> bytes:
    """Return a request for a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def raw_client(port: int, path: str, buffer_bytes: int = 0) -> socket.socket:
    """Connect a client that does only what it is told: it never reads by itself."""
    sock = socket.socket()
    if buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.connect(("127.0.0.1", port))
    sock.sendall(handshake(path))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    return sock


def text_frame(text: str) -> bytes:
    """Return a client's frame."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)


def reset(sock: socket.socket) -> None:
    """Vanish with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def listen(
    server: Server, path: str, clients: int, messages: int, patience_s: float
) -> list[list[tuple[int, float]]]:
    """Have healthy clients read numbered messages until the last, or none comes.

    Args:
        patience_s: longest wait for the next message (s); the first may take longer,
            because others still connect.

    Returns:
        For each client, of each message: its number, and how long it took (s).
    """
    url = server.url.replace("http", "ws", 1) + path

    async def one() -> list[tuple[int, float]]:
        got: list[tuple[int, float]] = []
        async with connect(
            url, proxy=None, compression=None, max_size=None, close_timeout=1
        ) as client:
            try:
                while len(got) < messages:
                    async with asyncio.timeout(patience_s if got else PATIENCE_S):
                        text = str(await client.recv())
                    number, at, _ = text.split(":", 2)
                    got.append((int(number), time.monotonic() - float(at)))
            except (TimeoutError, ConnectionClosed):
                pass
        return got

    async def all_of_them() -> list[list[tuple[int, float]]]:
        return await asyncio.gather(*(one() for _ in range(clients)))

    return asyncio.run(all_of_them())


def wait_sessions(server: Server, sessions: int) -> None:
    """Wait until so many clients are connected to the main broker."""
    wait_until(lambda: vitals(server)["sessions"] == sessions)
