"""Which ``message_id`` was published a short while ago, and where."""

from __future__ import annotations

from broker.message import Position

__all__ = ("RecentIds",)


class RecentIds:
    """Message ids of the last while, bounded in time and in number.

    Args:
        ttl_s: how long an id is remembered (s, > 0).
        max_ids: how many are; the oldest is forgotten first (> 0).
    """

    def __init__(self, *, ttl_s: float, max_ids: int) -> None:
        self._ttl_s = ttl_s
        self._max_ids = max_ids
        # {(topic, id): (expires at, position)}, oldest first
        self._known: dict[tuple[str, str], tuple[float, Position]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, topic: str, message_id: str, now: float) -> Position | None:
        """Return where the id was published, or None if it is not remembered."""
        self.expire(now)
        known = self._known.get((topic, message_id))
        return None if known is None else known[1]

    def add(self, topic: str, message_id: str, position: Position, now: float) -> None:
        """Remember an id that ``find`` did not know."""
        self._known[topic, message_id] = now + self._ttl_s, position
        if len(self._known) > self._max_ids:
            del self._known[next(iter(self._known))]

    def expire(self, now: float) -> None:
        """Forget the ids whose time has come."""
        while self._known:
            key, (expires_at, _) = next(iter(self._known.items()))
            if expires_at > now:
                return
            del self._known[key]
