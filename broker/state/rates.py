"""How fast one client, or one user, may send. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable

from broker.config import Limits
from broker.ending import EndKind

__all__ = ("Meter", "TokenBucket", "UserMeters", "session_meter", "user_meter")


class TokenBucket:
    """An average rate with bursts.

    Args:
        rate_per_s: tokens that come back each second (> 0).
        capacity: most tokens at once (> 0); it begins full.
        now: (s, monotonic).

    Invariant: in any stretch of t seconds at most ``capacity + rate_per_s * t`` are
    taken.
    """

    __slots__ = ("_at", "_capacity", "_level", "_rate_per_s")

    def __init__(self, rate_per_s: float, capacity: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = capacity
        self._level = capacity
        self._at = now

    def take(self, tokens: float, now: float) -> bool:
        """Take tokens if there are so many; else take none and return False."""
        self._refill(now)
        if tokens > self._level:
            return False
        self._level -= tokens
        return True

    def is_full(self, now: float) -> bool:
        """Return whether it is as good as new."""
        self._refill(now)
        return self._level >= self._capacity

    def _refill(self, now: float) -> None:
        back = (now - self._at) * self._rate_per_s
        self._level = min(self._capacity, self._level + back)
        self._at = now


class Meter:
    """The rates of one party: messages and bytes per second; None for no limit.

    Args:
        burst_s: how many seconds' worth may come at once.
        largest_bytes: what a single message may have: it fits any byte rate.
    """

    __slots__ = ("_bytes", "_messages")

    def __init__(
        self,
        messages_per_s: float | None,
        bytes_per_s: float | None,
        *,
        burst_s: float,
        largest_bytes: int,
        now: float,
    ) -> None:
        self._messages = self._bytes = None
        if messages_per_s is not None:
            capacity = max(1.0, messages_per_s * burst_s)
            self._messages = TokenBucket(messages_per_s, capacity, now)
        if bytes_per_s is not None:
            capacity = max(float(largest_bytes), bytes_per_s * burst_s)
            self._bytes = TokenBucket(bytes_per_s, capacity, now)

    def take(self, size_bytes: int, now: float) -> EndKind | None:
        """Count a message, or return which rate it exceeds."""
        if self._messages is not None and not self._messages.take(1, now):
            return EndKind.MESSAGE_RATE
        if self._bytes is not None and not self._bytes.take(size_bytes, now):
            return EndKind.BYTE_RATE
        return None

    def is_idle(self, now: float) -> bool:
        """Return whether a new meter would allow no more than this one."""
        buckets = (self._messages, self._bytes)
        return all(bucket is None or bucket.is_full(now) for bucket in buckets)


def session_meter(limits: Limits, now: float) -> Meter | None:
    """Return the meter of a new session; None if its rates have no limit."""
    return _meter(limits, limits.messages_per_s, limits.bytes_per_s, now)


def user_meter(limits: Limits, now: float) -> Meter | None:
    """Return the meter of a user; None if the rates have no limit."""
    return _meter(limits, limits.user_messages_per_s, limits.user_bytes_per_s, now)


class UserMeters:
    """One meter per user, over all of the user's sessions on this node.

    It outlives the last of them until it is idle, so that nobody gets a new one by
    coming back.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_user: dict[str, Meter] = {}

    def __len__(self) -> int:
        return len(self._by_user)

    def of(self, user: str, now: float) -> Meter | None:
        """Return the user's meter; None if the rates have no limit."""
        meter = self._by_user.get(user)
        if meter is None:
            meter = user_meter(self._limits, now)
            if meter is not None:
                self._by_user[user] = meter
        return meter

    def forget_idle(self, is_connected: Callable[[str], bool], now: float) -> None:
        """Let go of the meters of users who are gone, once they are idle."""
        idle = [
            user
            for user, meter in self._by_user.items()
            if not is_connected(user) and meter.is_idle(now)
        ]
        for user in idle:
            del self._by_user[user]


def _meter(
    limits: Limits, messages_per_s: float | None, bytes_per_s: float | None, now: float
) -> Meter | None:
    if messages_per_s is None and bytes_per_s is None:
        return None
    return Meter(
        messages_per_s,
        bytes_per_s,
        burst_s=limits.burst_s,
        largest_bytes=limits.max_message_bytes,
        now=now,
    )
