"""The bounded queue between a publish and one subscriber. Sans-IO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message
from broker.stats import Counters

from .budget import Budget
from .gaps import Gaps, loss_of

__all__ = ("Bounds", "Outbox")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait in one outbox.

    Attributes:
        max_messages: most messages at once, with the gaps between them, and most gaps
            before and behind them (> 0). Bytes alone would let empty messages pile up
            without end.
        max_bytes: most message bytes at once (bytes, > 0).
    """

    max_messages: int
    max_bytes: int


class Outbox(ABC):
    """Messages and gaps that wait for one subscriber.

    Args:
        overflow: what to do with a message that does not fit.
        bounds: how much may wait.
        budget: counts what is held; ``Budget.hold`` was called before each ``offer``.
        counters: of the node; they grow with this outbox's own.

    Attributes:
        size_bytes: bytes that wait now.
        dropped: messages dropped so far by the overflow policy.
        told: messages that gaps handed out so far have told as missing.

    Invariants: neither limit is exceeded after any call. Every dropped message that
    had a position is told by exactly one gap, which stands between what came before
    it and what came after it, or the outbox has raised SlowConsumer.
    """

    __slots__ = (
        "_lost_first",
        "_lost_last",
        "budget",
        "counters",
        "dropped",
        "max_bytes",
        "max_messages",
        "overflow",
        "size_bytes",
        "told",
    )

    def __init__(
        self, overflow: Overflow, bounds: Bounds, budget: Budget, counters: Counters
    ) -> None:
        self.overflow = overflow
        self.max_messages = bounds.max_messages
        self.max_bytes = bounds.max_bytes
        self.budget = budget
        self.counters = counters
        self.size_bytes = 0
        self.dropped = 0
        self.told = 0
        # Where losses stand in the stream: before all that waits, or behind it (with
        # CONFLATE, behind their topic's message).
        self._lost_first = Gaps()
        self._lost_last = Gaps()

    @abstractmethod
    def __len__(self) -> int:
        """Return how many items wait, gaps included."""

    def is_empty(self) -> bool:
        """Say whether nothing waits, not even a gap."""
        return not len(self)

    @abstractmethod
    def offer(self, message: Message, size: int) -> None:
        """Queue a message of ``size`` bytes, or apply the overflow policy.

        Raises:
            SlowConsumer: it does not fit and the policy does not drop, or too many
                gaps wait already; it was not queued and is no longer counted.
        """

    @abstractmethod
    def tell(self, gap: Gap) -> None:
        """Queue the news that messages were lost before they came here.

        Raises:
            SlowConsumer: too many gaps wait already; nothing was queued.
        """

    @abstractmethod
    def take(self) -> Item:
        """Remove and return the oldest item. Raises IndexError if there is none."""

    def poll(self) -> Item | None:
        """Remove and return the oldest item, or None if there is none."""
        return None if self.is_empty() else self.take()

    def take_all(self) -> list[Item]:
        """Remove and return everything that waits, oldest first."""
        return [self.take() for _ in range(len(self))]

    def has_room(self, size: int) -> bool:
        """Return whether a message of ``size`` bytes would be queued as it is."""
        return len(self) < self.max_messages and self.size_bytes + size <= (
            self.max_bytes
        )

    def untell(self, gap: Gap) -> None:
        """Put a gap back that was just taken, as the youngest item."""
        self.told -= gap.missed
        self.counters.missed -= gap.missed
        self.counters.gaps -= 1
        self.tell(gap)

    @abstractmethod
    def clear(self) -> None:
        """Let go of everything that waits, untold: the subscriber is gone."""

    def _note(self, gap: Gap, place: Gaps) -> None:
        """Note a loss. Raises SlowConsumer, with nothing changed, for one too many."""
        waiting = len(self._lost_first) + len(self._lost_last)
        if waiting >= self.max_messages and not place.can_join(gap):
            raise SlowConsumer("more gaps would wait than messages may")
        place.add(gap)

    def _drop(self, message: Message, place: Gaps) -> None:
        """Let a message go and note the loss. Raises SlowConsumer as ``_note``."""
        gap = loss_of(message)
        if gap is not None:
            self._note(gap, place)
        self.dropped += 1
        self.counters.dropped[self.overflow] += 1
        self.budget.release(message)

    def _tell(self, gap: Gap) -> Gap:
        self.told += gap.missed
        self.counters.missed += gap.missed
        self.counters.gaps += 1
        return gap
