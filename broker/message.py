"""What is published, where it stands in its topic's stream, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

__all__ = (
    "NO_HEADERS",
    "Encode",
    "Gap",
    "Item",
    "Message",
    "Payload",
    "Position",
    "Receipt",
    "Share",
    "no_headers",
    "size_of",
)

Payload: TypeAlias = str | bytes
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def no_headers() -> Mapping[str, str]:
    """Return the one empty mapping that all messages without headers share."""
    return NO_HEADERS


def size_of(payload: Payload) -> int:
    """Return the size in bytes on the wire: text counts as UTF-8.

    Raises:
        UnicodeEncodeError: lone surrogates, which no WebSocket can carry.
    """
    if isinstance(payload, str):
        # isascii reads a flag: no pass over the text in the common case.
        return len(payload) if payload.isascii() else len(payload.encode())
    return len(payload)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one topic's stream.

    Attributes:
        epoch: opaque id of one life of the stream; a new one means that offsets
            restarted, so positions of two epochs cannot be compared.
        offset: 0 for "before the first message", then 1, 2, 3 … with no gaps.

    Source: the offset/epoch pair of Centrifugo's history and recovery.
    """

    epoch: str
    offset: int


class Share:
    """Book-keeping of one message that many outboxes hold at once.

    Attributes:
        size_bytes: what the message costs while anybody holds it (bytes).
        holders: outboxes in which it waits; the byte budget counts it once.
        frames: {encoder: frame}: encoded once per wire format, not once per client.
        fanned_out: when it was (s, monotonic); None for most messages, see
            ``stats.SAMPLE``.
    """

    __slots__ = ("fanned_out", "frames", "holders", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.holders = 0
        self.frames: dict[Callable[..., Payload], Payload] = {}
        self.fanned_out: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One publication, shared by reference between all its subscribers.

    Attributes:
        topic: full topic name; empty for what ``Session.send`` sends to one client.
        payload: as published; str reaches a client as text, bytes as binary.
        position: where it stands in its topic; None for ``Session.send``.
        headers: small facts beside the payload; not part of a plain frame.
    """

    topic: str
    payload: Payload
    position: Position | None = None
    headers: Mapping[str, str] = field(default_factory=no_headers)
    share: Share = field(
        default_factory=lambda: Share(0), repr=False, compare=False, kw_only=True
    )

    @property
    def size_bytes(self) -> int:
        """What the message costs a queue (bytes): payload and headers."""
        return self.share.size_bytes

    def encoded(self, encode: Encode) -> Payload:
        """Return the frame that ``encode`` makes of it, made once for all clients."""
        frames = self.share.frames
        frame = frames.get(encode)
        if frame is None:
            frame = frames[encode] = encode(self)
        return frame


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of one topic that this subscriber will not get.

    It stands in the stream where they would have stood.

    Attributes:
        topic: whose messages; or a pattern, after an outage: how much was missed of
            what it covers nobody knows.
        epoch: of the offsets below; empty for a pattern.
        first: offset of the first one missing; 0 where the stream has begun a new life:
            what is missing of the old one nobody knows.
        last: offset of the last one missing (>= first).
        missed: how many of this epoch (>= 1, or >= 0 in a new life). Below
            ``last - first + 1`` where messages in between were not meant for this
            subscriber (``publish(exclude=…)``).
    """

    topic: str
    epoch: str
    first: int
    last: int
    missed: int


Item: TypeAlias = Message | Gap
Encode: TypeAlias = Callable[[Item], Payload]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a publish.

    Attributes:
        position: where the message stands in its topic.
        subscribers: subscriptions on this node that it was handed to; what they
            keep of it is up to their overflow policy.
        duplicate: True if ``message_id`` was seen before: nothing was published
            again, and ``position`` is the first one's.
    """

    position: Position
    subscribers: int
    duplicate: bool = False
