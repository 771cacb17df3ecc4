"""The outbox of every overflow policy but CONFLATE. Sans-IO."""

from __future__ import annotations

from collections import deque
from typing import cast

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message
from broker.stats import Counters

from .budget import Budget
from .outbox import Bounds, Outbox

__all__ = ("FifoOutbox",)


# An empty deque takes 760 bytes: all outboxes in which nothing waits share this one.
_NONE: deque[Item] = deque(maxlen=0)


class FifoOutbox(Outbox):
    """First in, first out."""

    __slots__ = ("_has_gaps", "_items", "_room")

    def __init__(
        self, overflow: Overflow, bounds: Bounds, budget: Budget, counters: Counters
    ) -> None:
        super().__init__(overflow, bounds, budget, counters)
        # Messages, and gaps that have messages on both sides.
        self._items: deque[Item] = _NONE
        # What the hot path compares with: 0 while losses wait to be told.
        self._room = bounds.max_messages
        self._has_gaps = False  # among the items, until all of them are taken

    def __len__(self) -> int:
        return len(self._items) + len(self._lost_first) + len(self._lost_last)

    def is_empty(self) -> bool:
        # Without room there are losses, and so there is something to tell.
        return not self._items and bool(self._room)

    def offer(self, message: Message, size: int) -> None:
        total = self.size_bytes + size
        if total > self.max_bytes or len(self._items) >= self._room:
            try:
                self._offer_slowly(message, size)
            except SlowConsumer:
                self.budget.release(message)
                raise
            finally:
                self._settle()
        else:
            self.size_bytes = total
            if self._items is _NONE:
                self._items = deque((message,))
            else:
                self._items.append(message)

    def tell(self, gap: Gap) -> None:
        self._note(gap, self._lost_last)
        self._settle()

    def take(self) -> Item:
        if self._room:
            item = self._pop()
        elif self._lost_first:
            item = self._lost_first.pop()
            self._settle()
        elif self._items:
            item = self._pop()
        else:
            item = self._lost_last.pop()
            self._settle()
        if isinstance(item, Gap):
            return self._tell(item)
        self.size_bytes -= item.share.size_bytes
        self.budget.release(item)
        return item

    def poll(self) -> Item | None:
        if not self._room:
            return self.take()
        if not self._items:
            return None
        item = self._items.popleft()
        if not self._items:
            self._items = _NONE
        if isinstance(item, Gap):
            return self._tell(item)
        share = item.share  # the hot path of writers: Budget.release, written out
        share.holders -= 1
        if not share.holders:
            self.budget.add(-share.size_bytes)
        self.size_bytes -= share.size_bytes
        return item

    def take_all(self) -> list[Item]:
        if not self._room:
            return super().take_all()
        if self._has_gaps:
            self._has_gaps = False
            return super().take_all()
        messages = cast("list[Message]", list(self._items))
        self._items = _NONE
        self.size_bytes = 0
        self.budget.release_all(messages)
        return cast("list[Item]", messages)

    def clear(self) -> None:
        for item in self._items:
            if isinstance(item, Message):
                self.budget.release(item)
        self._items = _NONE
        self._lost_first.clear()
        self._lost_last.clear()
        self._settle()
        self.size_bytes = 0

    def _pop(self) -> Item:
        item = self._items.popleft()
        if not self._items:
            self._items = _NONE
        return item

    def _settle(self) -> None:
        lossless = not self._lost_first and not self._lost_last
        self._room = self.max_messages if lossless else 0

    def _offer_slowly(self, message: Message, size: int) -> None:
        """Do what ``offer`` does when losses wait to be told or room is short."""
        if self._fits(size):
            self._append(message, size)
        elif self.overflow is Overflow.DROP_OLDEST and size <= self.max_bytes:
            self._evict_for(size)
            self._append(message, size)
        elif self.overflow in (Overflow.DROP_NEWEST, Overflow.DROP_OLDEST):
            self._drop(message, self._lost_last)
        else:
            raise SlowConsumer

    def _fits(self, size: int) -> bool:
        # Losses behind the queue must be told before this message: they move into it,
        # or, if it is empty, to the losses before it.
        places = len(self._items) + len(self._lost_last) if self._items else 0
        return places < self.max_messages and self.size_bytes + size <= self.max_bytes

    def _append(self, message: Message, size: int) -> None:
        while self._lost_last:
            gap = self._lost_last.pop()
            if self._items:
                self._items.append(gap)
                self._has_gaps = True
            else:
                self._lost_first.add(gap)
        if self._items is _NONE:
            self._items = deque()
        self._items.append(message)
        self.size_bytes += size

    def _evict_for(self, size: int) -> None:
        while not self._fits(size):
            oldest = self._items[0]
            if isinstance(oldest, Gap):
                self._note(oldest, self._lost_first)
            else:
                self._drop(oldest, self._lost_first)
                self.size_bytes -= oldest.share.size_bytes
            self._pop()
