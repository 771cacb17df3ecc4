"""The port to one client: a pipe of whole frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from .message import Payload, no_headers

__all__ = ("ConnectRequest", "FrameT", "Frames", "Transport")

FrameT = TypeVar("FrameT", bound=Payload)


@dataclass(frozen=True, slots=True)
class Frames(Generic[FrameT]):
    """Which frames an endpoint takes from its clients: ``TEXT``, ``BINARY`` or ``ANY``.

    Attributes:
        name: for messages to people.
        kinds: types of the frames: str is text, bytes binary.
    """

    name: str
    kinds: tuple[type[Payload], ...]

    TEXT: ClassVar[Frames[str]]
    BINARY: ClassVar[Frames[bytes]]
    ANY: ClassVar[Frames[Payload]]


Frames.TEXT = Frames("text", (str,))
Frames.BINARY = Frames("binary", (bytes,))
Frames.ANY = Frames("any", (str, bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """What a client said when it asked to connect; input for ``authenticate``.

    Attributes:
        path: of the URL, decoded, without the query.
        headers: {lower-case name: value}; of repeated ones the first.
        query: {name: value}; of repeated ones the last.
        cookies: {name: value}.
        client_host: the peer's address; None where the server does not know it.
    """

    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=no_headers)
    query: Mapping[str, str] = field(default_factory=no_headers)
    cookies: Mapping[str, str] = field(default_factory=no_headers)
    client_host: str | None = None


class Transport(Protocol):
    """A connected client, as the core sees it.

    The core calls ``receive`` from one task at a time, and ``send`` and ``close`` from
    one, never two of the same kind at once. For protocols whose frames are joined that
    is a task of the broker's own, which sends for many clients: with the context
    variables of whoever has entered the broker. An adapter translates the host's errors
    to ``TransportClosed`` and holds no queue of its own.

    A transport may have an attribute ``loses_nothing`` that is True: what a cancelled
    ``receive`` would have returned, the next one returns. Then a handler that waits for
    its client receives by itself. Otherwise each session has a task for that, which is
    never cancelled before the session has ended; it takes about 8 KiB.
    """

    async def receive(self) -> Payload:
        """Return the next frame, text as str and binary as bytes, in order.

        Raises:
            TransportClosed: the client has left. It is not called again then.
        """
        ...

    async def send(self, frame: Payload) -> None:
        """Send one frame; waits while the client's connection takes no more.

        After it was cancelled or has raised, the connection counts as broken, and
        neither ``send`` nor ``close`` is called again: part of a frame may be out.

        Raises:
            TransportClosed: the client cannot be reached.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye with a WebSocket close code and at most 123 bytes of reason.

        Called at most once; ``receive`` goes on until the client has answered.

        Raises:
            TransportClosed: the client cannot be reached.
        """
        ...
