"""When one session has waited long enough, decided from counters."""

from __future__ import annotations

from broker.config import Limits
from broker.ending import EndKind

__all__ = ("Deadlines",)


class Deadlines:
    """The deadlines of one session.

    A watchdog looks at counters that the session keeps anyway, so that no message
    pays for a clock or a timer; deadlines are as exact as the watchdog's period.

    Args:
        limits: ``hello_s``, ``idle_s``, ``silence_s`` and ``stall_s``.
        now: when the session began (s, monotonic).
    """

    __slots__ = ("_limits", "_received", "_sent", "_since")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._received = 0
        self._sent = 0
        # Since when each of these has held: {condition: time (s)}
        self._since: dict[EndKind, float] = {}
        self._start(EndKind.HELLO_TIMEOUT, EndKind.IDLE, EndKind.SILENT, now=now)

    def check(
        self,
        now: float,
        *,
        received: int,
        sent: int,
        is_sending: bool,
        is_inbox_full: bool,
    ) -> EndKind | None:
        """Return the deadline that has passed, if any.

        Args:
            received: frames received so far.
            sent: frames sent so far.
            is_sending: a frame is being sent now.
            is_inbox_full: the client is being held back now.
        """
        heard, spoke = received != self._received, sent != self._sent
        self._received, self._sent = received, sent
        if not (self._since or is_sending or is_inbox_full):
            return None  # as a rule: each second, for each client
        if heard or is_inbox_full:  # who is held back cannot be heard
            self._start(EndKind.SILENT, now=now)
        if heard or spoke or is_inbox_full:
            self._start(EndKind.IDLE, now=now)
        self._follow(EndKind.STALLED, is_sending and not spoke, now)
        self._follow(EndKind.INBOX_FULL, is_inbox_full and not heard, now)
        if received:
            self._since.pop(EndKind.HELLO_TIMEOUT, None)
        for kind, since in self._since.items():
            limit = self._limit(kind)
            if limit is not None and now - since >= limit:
                return kind
        return None

    @property
    def is_stalled(self) -> bool:
        """One send was under way, and none was finished, at the last two checks."""
        return EndKind.STALLED in self._since

    def _start(self, *kinds: EndKind, now: float) -> None:
        for kind in kinds:
            if self._limit(kind) is not None:
                self._since[kind] = now

    def _follow(self, kind: EndKind, holds: bool, now: float) -> None:
        if holds:
            self._since.setdefault(kind, now)
        else:
            self._since.pop(kind, None)

    def _limit(self, kind: EndKind) -> float | None:
        limits = self._limits
        return {
            EndKind.HELLO_TIMEOUT: limits.hello_s,
            EndKind.IDLE: limits.idle_s,
            EndKind.SILENT: limits.silence_s,
        }.get(kind, limits.stall_s)
