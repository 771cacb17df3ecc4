"""A client in memory: both ends of a transport, without sockets."""

from __future__ import annotations

import math

import anyio

from broker.errors import TransportClosed
from broker.message import Payload

__all__ = ("MemoryClient", "MemoryTransport", "memory_transport")


class MemoryClient:
    """The remote end: what a browser would be.

    Attributes:
        close_code: with which it was closed; None if it was not.
        close_reason: likewise.
        answers_close: leave when closed, as a well-behaved client does.
    """

    def __init__(self, capacity: float) -> None:
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.answers_close = True
        self.closed = anyio.Event()
        self._news = anyio.Event()  # replaced whenever it is set
        self._to_server, self._from_client = anyio.create_memory_object_stream[Payload](
            math.inf
        )
        self._to_client, self._from_server = anyio.create_memory_object_stream[Payload](
            capacity
        )

    async def send(self, frame: Payload) -> None:
        """Send a frame to the server.

        Raises:
            anyio.ClosedResourceError: the client has left.
        """
        await self._to_server.send(frame)
        self._tell()

    async def receive(self) -> Payload:
        """Return the next frame from the server.

        Raises:
            anyio.EndOfStream: the server has closed, and all was received.
        """
        return await self._from_server.receive()

    def receive_nowait(self) -> Payload:
        """Return a frame that is there. Raises anyio.WouldBlock if none is."""
        return self._from_server.receive_nowait()

    def leave(self) -> None:
        """Vanish, as when a browser tab is closed. Idempotent."""
        self._to_server.close()
        self._from_server.close()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def close_all(self) -> None:
        """Free the streams of both ends, at the end of a test."""
        self.leave()
        self._from_client.close()
        self._to_client.close()


class MemoryTransport:
    """The server's end; see ``broker.Transport``."""

    def __init__(self, client: MemoryClient) -> None:
        self._client = client

    async def receive(self) -> Payload:
        """Return the client's next frame."""
        try:
            return await self._client._from_client.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise TransportClosed("the client has left") from None

    async def send(self, frame: Payload) -> None:
        """Send a frame; waits while the client does not read."""
        try:
            await self._client._to_client.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise TransportClosed("the client has left") from None

    async def close(self, code: int, reason: str) -> None:
        """Close; a client that answers leaves."""
        client = self._client
        await anyio.lowlevel.checkpoint()
        client.close_code, client.close_reason = code, reason
        client._to_client.close()
        client.closed.set()
        if client.answers_close:
            client._to_server.close()
            client._tell()


class KeepingTransport(MemoryTransport):
    """One whose ``receive`` may be cancelled at any moment."""

    loses_nothing = True

    async def receive(self) -> Payload:
        """Return the client's next frame."""
        client = self._client
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                return client._from_client.receive_nowait()
            except anyio.WouldBlock:
                await client._news.wait()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                raise TransportClosed("the client has left") from None


def memory_transport(
    capacity: float = math.inf, *, loses_nothing: bool = False
) -> tuple[MemoryClient, MemoryTransport]:
    """Return a client and the transport that reaches it.

    Args:
        capacity: frames that fit on the way to the client before ``send`` waits, as a
            socket's buffers do; 0 for a client that must be reading.
        loses_nothing: as some transports are; see ``broker.Transport``.
    """
    client = MemoryClient(capacity)
    kind = KeepingTransport if loses_nothing else MemoryTransport
    return client, kind(client)
