"""Counters that agree with what subscribers were told."""

from __future__ import annotations

from dataclasses import dataclass, field

from .config import Overflow
from .ending import EndKind

__all__ = ("Counters", "Statistics")


@dataclass(slots=True)
class Counters:
    """What one node has done since its broker was entered; only ever grows.

    Attributes:
        published: messages fanned out on this node.
        handed: messages handed to outboxes; one message to ten is ten.
        dropped: of those, dropped by overflow policy. {policy: messages}
        missed: messages told as missing, by gaps taken out of outboxes.
        slow_consumers: subscriptions ended because they fell behind.
        duplicates: publishes that ``message_id`` recognised, and repeats from the
            backplane.
        received: frames received from clients.
        sent: frames sent to clients.
        ended: sessions by how they ended. {kind: sessions}
    """

    published: int = 0
    handed: int = 0
    dropped: dict[Overflow, int] = field(
        default_factory=lambda: dict.fromkeys(Overflow, 0)
    )
    missed: int = 0
    slow_consumers: int = 0
    duplicates: int = 0
    received: int = 0
    sent: int = 0
    ended: dict[EndKind, int] = field(default_factory=lambda: dict.fromkeys(EndKind, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of one node.

    Attributes:
        sessions: connected now.
        leaving: of those, ended already and not yet gone; one that stays is a client
            that no longer reads and that the server cannot get rid of.
        subscriptions: subscriptions of code in this process, sessions' not counted.
        topics: topics with subscribers on this node.
        patterns: patterns with subscribers on this node.
        queued_bytes: bytes that wait in all outboxes and inboxes; what waits in
            several outboxes counts once.
        totals: what has been done so far; a copy.
    """

    sessions: int
    leaving: int
    subscriptions: int
    topics: int
    patterns: int
    queued_bytes: int
    totals: Counters
