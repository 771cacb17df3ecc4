"""Frames of one client that wait to be handled."""

from __future__ import annotations

from broker.message import Payload, size_of

from .budget import Budget

__all__ = ("Inbox",)


class Inbox:
    """A queue that tells when it is full; who fills it then stops reading.

    Args:
        max_messages: number of frames at which it is full (> 0).
        max_bytes: bytes at which it is full; the last frame may reach beyond it by
            its own size.
        budget: counts what waits.

    Attributes:
        size_bytes: bytes that wait now.
    """

    __slots__ = ("_budget", "_frames", "_max_bytes", "_max_messages", "size_bytes")

    def __init__(self, *, max_messages: int, max_bytes: int, budget: Budget) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._budget = budget
        # Not a deque: an empty one takes 760 bytes, and this one is short.
        self._frames: list[Payload] = []
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_full(self) -> bool:
        """Stop reading until something has been taken."""
        return (
            len(self._frames) >= self._max_messages
            or self.size_bytes >= self._max_bytes
        )

    def put(self, frame: Payload, size: int) -> None:
        """Queue a frame of ``size`` bytes; only while not full."""
        self._frames.append(frame)
        self.size_bytes += size
        self._budget.add(size)

    def take(self) -> Payload:
        """Remove and return the oldest frame. Raises IndexError if there is none."""
        frame = self._frames.pop(0)
        size = size_of(frame)
        self.size_bytes -= size
        self._budget.add(-size)
        return frame

    def clear(self) -> None:
        """Let go of all frames."""
        self._frames.clear()
        self._budget.add(-self.size_bytes)
        self.size_bytes = 0
