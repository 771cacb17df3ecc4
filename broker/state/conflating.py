"""The outbox of the overflow policy CONFLATE. Sans-IO."""

from __future__ import annotations

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message
from broker.stats import Counters

from .budget import Budget
from .outbox import Bounds, Outbox

__all__ = ("ConflatingOutbox",)


class ConflatingOutbox(Outbox):
    """Only the latest message of each topic waits, in the place of the first."""

    __slots__ = ("_latest",)

    def __init__(
        self, overflow: Overflow, bounds: Bounds, budget: Budget, counters: Counters
    ) -> None:
        super().__init__(overflow, bounds, budget, counters)
        # A replaced message keeps its place, or a busy topic would wait for ever
        # behind others that are replaced in turn.
        self._latest: dict[str, Message] = {}  # {topic: message}, oldest topic first

    def __len__(self) -> int:
        return len(self._latest) + len(self._lost_first) + len(self._lost_last)

    def offer(self, message: Message, size: int) -> None:
        former = self._latest.get(message.topic)
        total = self.size_bytes + size
        if former is not None:
            total -= former.share.size_bytes
        elif len(self._latest) >= self.max_messages:
            total = self.max_bytes + 1
        try:
            self._make_room(former, total)
        except SlowConsumer:
            self.budget.release(message)
            raise
        self._latest[message.topic] = message
        self.size_bytes = total

    def tell(self, gap: Gap) -> None:
        # Behind a message that waits, or else before all, so that it never waits for
        # other topics.
        is_behind = gap.topic in self._latest
        self._note(gap, self._lost_last if is_behind else self._lost_first)

    def take(self) -> Item:
        if self._lost_first:
            return self._tell(self._lost_first.pop())
        if not self._latest:
            raise IndexError("take from an empty outbox")
        message = self._latest.pop(next(iter(self._latest)))
        self.size_bytes -= message.share.size_bytes
        self.budget.release(message)
        if self._lost_last:
            self._lost_last.move(message.topic, self._lost_first)
        return message

    def clear(self) -> None:
        for message in self._latest.values():
            self.budget.release(message)
        self._latest.clear()
        self._lost_first.clear()
        self._lost_last.clear()
        self.size_bytes = 0

    def _make_room(self, former: Message | None, total: int) -> None:
        """Drop what the new message replaces, if that leaves ``total`` bytes in bounds.

        Raises:
            SlowConsumer: it does not, or too many gaps wait; nothing was changed.
        """
        if total > self.max_bytes:
            raise SlowConsumer
        if former is not None:
            self._drop(former, self._lost_first)
            if self._lost_last:
                self._lost_last.move(former.topic, self._lost_first)
