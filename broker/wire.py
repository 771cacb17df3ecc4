"""How a session speaks to its client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from .ending import Ending
from .message import Encode, Gap, Item, Payload

__all__ = ("PLAIN", "Join", "WireFormat", "plain_close", "plain_frame")

Join: TypeAlias = Callable[[list[Payload]], Payload]


def plain_frame(item: Item) -> Payload:
    """Return a message's payload as it is, and a gap as a small JSON text.

    The gap reads ``{"type":"gap","topic":…,"epoch":…,"first":…,"last":…,"missed":…}``.
    An endpoint whose clients expect something else passes its own ``encode``.
    """
    if not isinstance(item, Gap):
        return item.payload
    return msgspec.json.encode(
        {
            "type": "gap",
            "topic": item.topic,
            "epoch": item.epoch,
            "first": item.first,
            "last": item.last,
            "missed": item.missed,
        }
    ).decode()


def plain_close(ending: Ending) -> tuple[int, str]:
    """Return the close code and reason of our own table."""
    return ending.code, ending.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """What a session's frames look like.

    Attributes:
        encode: makes the frame of a message or a gap; called once per message, not once
            per client, if it is one function for all of them.
        join: makes one frame of several, so that a burst costs one send; None where
            each item is a frame of its own.
        max_joined: most items in one frame (> 0). centrifuge has 16; ours are joined
            over a whole burst (256: guess).
        max_joined_bytes: no more are added to a frame that has so many (bytes, > 0).
        wrap: makes the frame of what ``Session.send`` sends; None where it is one.
        close: what a client is told about its session's end.
    """

    encode: Encode = plain_frame
    join: Join | None = None
    max_joined: int = 256
    max_joined_bytes: int = 65_536  # guess: the largest message once more
    wrap: Callable[[Payload], Payload] | None = None
    close: Callable[[Ending], tuple[int, str]] = plain_close


PLAIN = WireFormat()
