"""The port between a session and the protocol that it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .message import Gap, Position

__all__ = ("Driver", "ServerSubscription")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSubscription:
    """A subscription that the application makes for a client.

    Attributes:
        topic: to receive from now on.
        info: JSON text about the client, for others in the topic; "" for none.
        data: JSON text for the client; "" for none.
        since: begin after this position.
        expires_at: when it is over (s, Unix); None for never.
    """

    topic: str
    info: str = ""
    data: str = ""
    since: Position | None = None
    expires_at: float | None = None


class Driver(Protocol):
    """What speaks a protocol for a session; a session without one speaks none.

    Nothing here raises, and nothing but ``subscribe`` waits.
    """

    def lose(self, gap: Gap) -> bool:
        """Take note of a gap, which goes out next; False to keep it from the client."""
        ...

    def tick(self, now: float) -> None:
        """Look at deadlines; about once a second (s, monotonic)."""
        ...

    async def subscribe(self, subscription: ServerSubscription) -> None:
        """Subscribe the client and tell it; nothing happens if it is subscribed.

        Raises:
            BrokerError: it is not subscribed.
        """
        ...

    def unsubscribe(self, topic: str) -> None:
        """End the client's subscription for good and tell it."""
        ...

    def refresh(self, expires_at: float | None) -> None:
        """Have the connection end at that time (s, Unix); None for never."""
        ...
