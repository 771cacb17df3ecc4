"""What a node asks of all nodes: to do something to clients, wherever they are."""

from __future__ import annotations

import json
from typing import TypeAlias

import msgspec

from .driver import ServerSubscription
from .message import Position

__all__ = (
    "Disconnect",
    "Order",
    "Refresh",
    "Subscribe",
    "Unsubscribe",
    "decode",
    "encode",
)


class _Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose sessions: those of a user, of a client, or of a client if it is theirs."""

    user: str | None = None
    client: str | None = None


class Disconnect(_Order, frozen=True, kw_only=True, tag="disconnect"):
    """End sessions.

    Attributes:
        code: for their clients; None for the usual one.
        reason: likewise.
        spared: clients that stay.
    """

    code: int | None = None
    reason: str | None = None
    spared: tuple[str, ...] = ()


class Subscribe(_Order, frozen=True, kw_only=True, tag="subscribe"):
    """Subscribe clients; fields as in ``ServerSubscription``."""

    topic: str
    info: str = ""
    data: str = ""
    since: Position | None = None
    expires_at: float | None = None

    def subscription(self) -> ServerSubscription:
        """Return what each client is to get."""
        return ServerSubscription(
            topic=self.topic,
            info=self.info,
            data=self.data,
            since=self.since,
            expires_at=self.expires_at,
        )


class Unsubscribe(_Order, frozen=True, kw_only=True, tag="unsubscribe"):
    """End subscriptions."""

    topic: str


class Refresh(_Order, frozen=True, kw_only=True, tag="refresh"):
    """Have connections end at that time (s, Unix); None for never."""

    expires_at: float | None = None


Order: TypeAlias = Disconnect | Subscribe | Unsubscribe | Refresh


def encode(order: Order) -> bytes:
    """Return an order for other nodes."""
    # Python's own JSON: it carries any str, also what no UTF-8 has a place for.
    return json.dumps(msgspec.to_builtins(order)).encode()


def decode(news: bytes) -> Order:
    """Return an order that another node has encoded.

    Raises:
        ValueError: it is none that this version knows.
    """
    try:
        order: Order = msgspec.convert(json.loads(news), Order)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return order
