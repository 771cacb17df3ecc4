"""The outbox of the overflow policy CONFLATE. Sans-IO."""

from __future__ import annotations

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message
from broker.stats import Counters

from .budget import Budget
from .gaps import Gaps
from .outbox import Bounds, Outbox

__all__ = ("ConflatingOutbox",)


class ConflatingOutbox(Outbox):
    """Only the latest message of each topic waits, in the place of the first."""

    __slots__ = ("_latest", "_lost")

    def __init__(
        self, overflow: Overflow, bounds: Bounds, budget: Budget, counters: Counters
    ) -> None:
        super().__init__(overflow, bounds, budget, counters)
        # A replaced message keeps its place, or a busy topic would wait for ever
        # behind others that are replaced in turn.
        self._latest: dict[str, Message] = {}  # {topic: message}, oldest topic first
        self._lost = Gaps()  # told before any message, so before their topic's

    def __len__(self) -> int:
        return len(self._latest) + len(self._lost)

    def offer(self, message: Message, size: int) -> None:
        former = self._latest.get(message.topic)
        total = self.size_bytes + size
        if former is not None:
            total -= former.share.size_bytes
        elif len(self._latest) >= self.max_messages:
            total = self.max_bytes + 1
        if total > self.max_bytes:
            self.budget.release(message)
            raise SlowConsumer
        self._latest[message.topic] = message
        self.size_bytes = total
        if former is not None:
            self._let_go(former)
            self._lost.add_message(former)
            self._check()

    def tell(self, gap: Gap) -> None:
        self._lost.add(gap)
        self._check()

    def take(self) -> Item:
        if self._lost:
            return self._tell(self._lost.pop())
        if not self._latest:
            raise IndexError("take from an empty outbox")
        message = self._latest.pop(next(iter(self._latest)))
        self.size_bytes -= message.share.size_bytes
        self.budget.release(message)
        return message

    def clear(self) -> None:
        for message in self._latest.values():
            self.budget.release(message)
        self._latest.clear()
        self._lost.clear()
        self.size_bytes = 0

    def _check(self) -> None:
        if len(self._lost) > self.max_messages:
            raise SlowConsumer("more gaps wait than messages may")
