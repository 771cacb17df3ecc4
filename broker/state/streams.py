"""The histories of all topics, each forgotten in its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from broker.config import MAX_HISTORY_BYTES
from broker.errors import LimitExceeded
from broker.message import Message

from .history import History

__all__ = ("Streams",)


@dataclass(slots=True)
class _Stream:
    history: History
    expires_at: float  # until when it lives on without subscribers (s)
    due: float | None = field(default=None)  # when it is next looked at (s)


class Streams:
    """Histories by topic, bounded in number and in time.

    Args:
        epochs: yields ids that are never the same.
        max_topics: most topics remembered at once (> 0).

    A look at what has expired costs by what has, not by what there is.
    """

    def __init__(self, epochs: Iterator[str], max_topics: int) -> None:
        self._epochs = epochs
        self._max_topics = max_topics
        self._streams: dict[str, _Stream] = {}
        # (due, topic), a heap. An entry whose stream is due at another time is stale.
        self._agenda: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, topic: str) -> bool:
        return topic in self._streams

    def find(self, topic: str) -> History | None:
        """Return a topic's history, or None if nothing is remembered of it."""
        stream = self._streams.get(topic)
        return None if stream is None else stream.history

    def open(self, topic: str) -> History:
        """Return a topic's history; one that is not remembered begins a new life.

        Raises:
            LimitExceeded: ``max_topics`` are remembered; nothing was changed.
        """
        stream = self._streams.get(topic)
        if stream is None:
            if len(self._streams) >= self._max_topics:
                raise LimitExceeded("max_topics", self._max_topics)
            stream = _Stream(History(next(self._epochs)), expires_at=0.0)
            self._streams[topic] = stream
        return stream.history

    def keep(
        self,
        message: Message,
        *,
        size: int,
        ttl_s: float,
        now: float,
        max_bytes: int = MAX_HISTORY_BYTES,
    ) -> None:
        """Keep the message just published in its topic, and at most ``size`` in all."""
        stream = self._streams[message.topic]
        stream.history.keep(
            message, size=size, expires_at=now + ttl_s, max_bytes=max_bytes
        )
        self.extend(message.topic, now + ttl_s)

    def extend(self, topic: str, until: float) -> None:
        """Remember a topic at least until then (s), even without subscribers."""
        stream = self._streams[topic]
        stream.expires_at = max(stream.expires_at, until)
        if stream.due is None or until < stream.due:
            self._look_at(topic, stream, until)

    def forget(self, topic: str) -> None:
        """Forget a topic now; a later message begins a new life of it."""
        self._streams.pop(topic, None)

    def expire(self, now: float, is_used: Callable[[str], bool]) -> None:
        """Forget messages, and topics that nobody uses, whose time has come."""
        while self._agenda and self._agenda[0][0] <= now:
            due, topic = heappop(self._agenda)
            stream = self._streams.get(topic)
            if stream is None or stream.due != due:
                continue
            stream.due = None
            stream.history.expire(now)
            following = stream.history.expires_at
            if following is None and not is_used(topic):
                if stream.expires_at <= now:
                    del self._streams[topic]
                else:
                    following = stream.expires_at
            if following is not None:
                self._look_at(topic, stream, following)

    def _look_at(self, topic: str, stream: _Stream, due: float) -> None:
        stream.due = due
        heappush(self._agenda, (due, topic))
