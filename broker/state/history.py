"""The last messages of one topic, kept so that subscribers can resume."""

from __future__ import annotations

from collections import deque

from broker.config import MAX_HISTORY_BYTES
from broker.message import Message, Position

__all__ = ("History",)


class History:
    """One life of a topic's stream: its counter, and a ring of its last messages.

    Args:
        epoch: id of this life, never used for another.

    Attributes:
        epoch: as given.
        offset: of the last message, 0 before the first.
        size_bytes: bytes of the messages kept.
    """

    __slots__ = ("_kept", "epoch", "offset", "size_bytes")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        self.size_bytes = 0
        # (expires at, offset, message); an offset is left out if it was not kept
        self._kept: deque[tuple[float, int, Message]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def position(self) -> Position:
        """The place after the last message."""
        return Position(self.epoch, self.offset)

    @property
    def expires_at(self) -> float | None:
        """When the oldest message is to be forgotten (s); None if none is kept."""
        return self._kept[0][0] if self._kept else None

    def advance(self) -> Position:
        """Return the position of the next message, which must then be published."""
        self.offset += 1
        return Position(self.epoch, self.offset)

    def keep(
        self,
        message: Message,
        *,
        size: int,
        expires_at: float,
        max_bytes: int = MAX_HISTORY_BYTES,
    ) -> None:
        """Keep the message just published, at most ``size`` and so many bytes in all.

        The oldest go first, the message itself last.
        """
        if size:
            self._kept.append((expires_at, self.offset, message))
            self.size_bytes += message.size_bytes
        while len(self._kept) > size or self.size_bytes > max_bytes:
            self._forget_oldest()

    def clear(self) -> None:
        """Forget all messages; the next one is counted on."""
        while self._kept:
            self._forget_oldest()

    def expire(self, now: float) -> None:
        """Forget messages whose time has come."""
        while self._kept and self._kept[0][0] <= now:
            self._forget_oldest()

    def since(self, position: Position | None, now: float) -> list[Message] | None:
        """Return all messages after a position, oldest first; None is the oldest kept.

        Returns:
            None if they are not all known: another epoch, an offset that was never
            given out, or messages that have been forgotten. Never a part.
        """
        self.expire(now)
        if position is None:
            return [message for _, _, message in self._kept]
        if position.epoch != self.epoch:
            return None
        after = position.offset
        found = [message for _, offset, message in self._kept if offset > after]
        return found if len(found) == self.offset - after else None

    def _forget_oldest(self) -> None:
        _, _, message = self._kept.popleft()
        self.size_bytes -= message.size_bytes
