"""The byte budget over all queues of a broker."""

from __future__ import annotations

from broker.message import Message

__all__ = ("Budget",)


class Budget:
    """Bytes that wait in queues, against a limit.

    A message that waits in a thousand outboxes is one object in memory and counts
    once: from the fan-out until the last of them has let it go.

    Args:
        limit_bytes: most bytes that should wait at once (> 0).

    Attributes:
        used_bytes: bytes that wait now.
    """

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    @property
    def is_exceeded(self) -> bool:
        """More waits than the limit allows: somebody must go."""
        return self.used_bytes > self.limit_bytes

    def hold(self, message: Message, holders: int) -> None:
        """Count a message that is about to be offered to ``holders`` more outboxes.

        Each of them calls ``release`` once: when it refuses the message, drops it or
        hands it out.
        """
        share = message.share
        if not share.holders:
            self.used_bytes += share.size_bytes
        share.holders += holders

    def release(self, message: Message) -> None:
        """Count one holder of a message less."""
        share = message.share
        share.holders -= 1
        if not share.holders:
            self.used_bytes -= share.size_bytes
