"""The byte budget over all queues of a broker."""

from __future__ import annotations

from operator import is_

from broker.message import Message

__all__ = ("Budget",)


class Budget:
    """Bytes that wait in queues, against a limit.

    A message that waits in a thousand outboxes is one object in memory and counts
    once: from the fan-out until the last of them has let it go.

    Args:
        limit_bytes: most bytes that should wait at once (> 0).
    """

    __slots__ = ("_let_go", "_times", "_used_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._used_bytes = 0
        self._let_go: list[Message] = []  # so many times, and not counted yet
        self._times = 0

    @property
    def used_bytes(self) -> int:
        """Bytes that wait now."""
        self._settle()
        return self._used_bytes

    @property
    def is_exceeded(self) -> bool:
        """More waits than the limit allows: somebody must go."""
        limit = self.limit_bytes
        return self._used_bytes > limit and self.used_bytes > limit

    def add(self, size: int) -> None:
        """Count bytes that are no message's; below 0 for some that wait no more."""
        self._used_bytes += size

    def hold(self, message: Message, holders: int) -> None:
        """Count a message that is about to be offered to ``holders`` more outboxes.

        Each of them calls ``release`` once: when it refuses the message, drops it or
        hands it out.
        """
        share = message.share
        if not share.holders:
            self._used_bytes += share.size_bytes
        share.holders += holders

    def release(self, message: Message) -> None:
        """Count one holder of a message less."""
        share = message.share
        share.holders -= 1
        if not share.holders:
            self._used_bytes -= share.size_bytes

    def release_all(self, messages: list[Message]) -> None:
        """Count one holder less of each; the list is not changed afterwards.

        After a burst one outbox after the other lets go of the same messages. That is
        noted, and counted once for all of them; until then too much is counted.
        """
        last = self._let_go
        if len(last) == len(messages) and all(map(is_, last, messages)):
            self._times += 1
        else:
            self._settle()
            self._let_go, self._times = messages, 1

    def _settle(self) -> None:
        messages, times = self._let_go, self._times
        self._let_go, self._times = [], 0
        for message in messages:
            share = message.share
            share.holders -= times
            if not share.holders:
                self._used_bytes -= share.size_bytes
