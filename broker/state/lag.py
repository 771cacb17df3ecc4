"""How far a node is behind its backplane."""

from __future__ import annotations

from broker.message import Position
from broker.stats import Histogram

__all__ = ("Lag",)

FORGET_S = 60.0  # what never comes back was lost, or nobody listens any more (guess)


class Lag:
    """Times how long what this node has published takes to come back to it. Sans-IO.

    One publication at a time, because a few are enough to tell.

    Args:
        times: where they are counted.
    """

    __slots__ = ("_awaited", "_times")

    def __init__(self, times: Histogram) -> None:
        self._times = times
        self._awaited: tuple[str, Position, float] | None = None

    @property
    def is_awaiting(self) -> bool:
        """A publication has not come back yet."""
        return self._awaited is not None

    def accept(
        self, topic: str, position: Position, reached: Position | None, now: float
    ) -> None:
        """Take note that the backplane has accepted a publication.

        Args:
            reached: how far this node has got in the topic; None if it does not listen.
            now: (s, monotonic).
        """
        if reached is None:
            return
        if _is_at(reached, position):
            self._times.observe(0.0)
        elif self._awaited is None or now - self._awaited[2] > FORGET_S:
            self._awaited = topic, position, now

    def arrive(self, topic: str, position: Position, now: float) -> None:
        """Take note that the backplane has brought a message."""
        if self._awaited is None:
            return
        awaited, at, since = self._awaited
        if topic == awaited and _is_at(position, at):
            self._awaited = None
            self._times.observe(now - since)


def _is_at(reached: Position, position: Position) -> bool:
    return reached.epoch == position.epoch and reached.offset >= position.offset
