"""What broadcaster calls a message."""

from __future__ import annotations

from typing import Any

__all__ = ("Event",)


class Event:
    """One message, as one subscriber gets it.

    Attributes:
        channel: as it was subscribed to.
        message: as it was published: text or bytes; of a backend of your own, whatever
            that brings.
    """

    def __init__(self, channel: str, message: Any) -> None:
        self.channel = channel
        self.message = message

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Event)
            and self.channel == other.channel
            and self.message == other.message
        )

    # As there: an event can be changed, so it is no key.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Event(channel={self.channel!r}, message={self.message!r})"
