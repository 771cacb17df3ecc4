"""Counters that agree with what subscribers were told, and where time goes."""

from __future__ import annotations

from bisect import bisect_left
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Self

from .config import Overflow
from .ending import EndKind

__all__ = ("SAMPLE", "TIME_BOUNDS_S", "Counters", "Histogram", "Statistics")

# From what one fan-out to a few takes to where people notice (guess).
TIME_BOUNDS_S = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5),
    *(0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


# Of so many fan-outs one is timed: clocks cost about as much as a delivery in process.
SAMPLE = 16


@dataclass(slots=True)
class Histogram:
    """How often a time fell between two bounds.

    Attributes:
        counts: times at most as long as the bound of the same index in
            ``TIME_BOUNDS_S`` and longer than the one before; the last, which has no
            bound, of those longer than all.
        sum_s: of all times (s).
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(TIME_BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, time_s: float) -> None:
        """Count one time (s, >= 0)."""
        self.counts[bisect_left(TIME_BOUNDS_S, time_s)] += 1
        self.sum_s += time_s


@dataclass(slots=True)
class Counters:
    """What one node has done since its broker was entered; only ever grows.

    Attributes:
        published: messages fanned out on this node.
        handed: messages handed to outboxes; one message to ten is ten.
        dropped: of those, dropped by overflow policy. {policy: messages}
        missed: messages told as missing, by gaps taken out of outboxes.
        gaps: those gaps.
        slow_consumers: subscriptions ended because they fell behind.
        duplicates: publishes that ``message_id`` recognised, and repeats from the
            backplane.
        received: frames received from clients.
        received_bytes: what they carried.
        sent: frames sent to clients.
        sent_bytes: what they carried, before their encoding: payloads and headers.
        ended: sessions by how they ended. {kind: sessions}
        refused: clients that no session was opened for, by why. {kind: clients}
        fan_out: time it takes to hand one message to all outboxes of this node. One
            fan-out of ``SAMPLE`` is timed, beginning with the first.
        queueing: time from its fan-out until a message has been sent to one client;
            of the messages whose fan-out was timed.
        outages: times that the link to the other nodes went down.
        accepting: time that the backplane takes to accept a publication of this node.
        lag: time from then until it has brought the publication to this node itself,
            where that listens to the topic; 0 if that was before. One at a time.
    """

    published: int = 0
    handed: int = 0
    dropped: dict[Overflow, int] = field(
        default_factory=lambda: dict.fromkeys(Overflow, 0)
    )
    missed: int = 0
    gaps: int = 0
    slow_consumers: int = 0
    duplicates: int = 0
    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    ended: dict[EndKind, int] = field(default_factory=lambda: dict.fromkeys(EndKind, 0))
    refused: dict[EndKind, int] = field(
        default_factory=lambda: dict.fromkeys(EndKind, 0)
    )
    fan_out: Histogram = field(default_factory=Histogram)
    queueing: Histogram = field(default_factory=Histogram)
    outages: int = 0
    accepting: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)

    def copy(self) -> Self:
        """Return a snapshot."""
        return deepcopy(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of one node.

    Attributes:
        sessions: connected now.
        leaving: of those, ended already and not yet gone; one that stays is a client
            that no longer reads and that the server cannot get rid of.
        stalled: not ended, with a send that waited for the client both times when the
            watchdog last looked (for at most ``Limits.stall_s``, then it ends).
        subscriptions: subscriptions of code in this process, sessions' not counted.
        topics: topics with subscribers on this node.
        patterns: patterns with subscribers on this node.
        waiting: messages and gaps that wait in all outboxes; one that waits in
            several counts in each.
        queued_bytes: bytes that wait in all outboxes and inboxes; what waits in
            several outboxes counts once.
        is_draining: no new clients are taken (``drain``).
        is_backplane_up: what is published reaches the other nodes.
        nodes: nodes that can be heard, this one included.
        totals: what has been done so far; a copy.
    """

    sessions: int
    leaving: int
    stalled: int
    subscriptions: int
    topics: int
    patterns: int
    waiting: int
    queued_bytes: int
    is_draining: bool
    is_backplane_up: bool
    nodes: int
    totals: Counters
