"""HTTP/1.1 and nothing else, and an end after which a client is not heard any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import (
    H2ProtocolAssumedError,
    H11Protocol,
    H11WSConnection,
)

from .pipelining import OneByOne

__all__ = ("Ending", "HardenedH11", "HardenedWrapper", "SendBytes", "StreamEnding")

SendBytes: TypeAlias = Callable[[bytes], Awaitable[None]]


class ByteSender(Protocol):
    """The TCP connection, for who has no event to wrap around what it sends."""

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes, after all that was sent before."""


@dataclass(frozen=True)
class Ending(Event):
    """Tells the TCP connection that it ends: hear no more, and be gone in time."""


@dataclass(frozen=True)
class StreamEnding(StreamEvent):
    """``Ending``, on its way from a WebSocket to its TCP connection."""


class NobodyWaits:
    """An event, where nobody waits for it."""

    async def set(self) -> None:
        """Wake nobody."""


NOBODY_WAITS: Any = NobodyWaits()


class HardenedWrapper(ProtocolWrapper):
    """Chooses HTTP/1.1, whatever was negotiated.

    WebSockets over HTTP/2 are not safe in hypercorn 0.18 (#329, #197).

    Attributes:
        is_deaf: discard what still arrives, unparsed.
    """

    def __init__(self, *args: Any) -> None:
        http: tuple[Any, ...] = (*args[:-1], "http/1.1")  # was what TLS negotiated
        super().__init__(*http)
        self.is_deaf = False

    async def handle(self, event: Event) -> None:
        """Pass on what the TCP connection says."""
        if isinstance(event, RawData) and self.is_deaf:
            return
        assert isinstance(self.protocol, H11Protocol)
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError:
            await self.send(Ending())
            await self.protocol._send_error_response(505)
            await self.send(Closed())


class HardenedH11(H11Protocol):
    """HTTP/1.1 that leads neither to HTTP/2 nor, unasked, to anything else."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        limit = self.config.h11_max_incomplete_size
        self.connection = OneByOne(h11.SERVER, max_incomplete_event_size=limit)

    @property
    def send_bytes(self) -> SendBytes:
        """Sends bytes to the client."""
        server: ByteSender = self.send.__self__  # type: ignore[attr-defined] # of a bound method
        return server.send_bytes

    def forget_http(self) -> None:
        """Let go of what a WebSocket that is accepted needs no more (3 KiB)."""
        assert isinstance(self.connection, H11WSConnection)
        del self.connection.h11_connection
        self.can_read = NOBODY_WAITS

    async def stream_send(self, event: StreamEvent) -> None:
        """Pass on what a request's stream says; a frame takes the shortest way."""
        if isinstance(event, Data):
            await self.send(RawData(event.data))
        elif isinstance(event, StreamEnding):
            await self.send(Ending())
        else:
            await super().stream_send(event)

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(request)
        if self.stream is not None and self.stream.closed:
            # Refused with a 400 or 404; hypercorn would leave the socket open.
            await self.stream_send(StreamClosed(self.stream.stream_id))

    async def _check_protocol(self, event: h11.Request) -> None:
        # An `Upgrade: h2c` is ignored, as RFC 9110 section 7.8 allows.
        if event.http_version not in (b"1.0", b"1.1"):
            raise H2ProtocolAssumedError(b"")
