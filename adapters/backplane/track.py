"""How one topic is followed: each message once and in order, or said to be lost."""

from __future__ import annotations

from broker.backplane import Node
from broker.config import TopicRules
from broker.message import Position

from .body import Delivery

__all__ = ("MAX_HELD", "MAX_HELD_BYTES", "Track")

# What is pushed while the stream is read waits here. What does not fit is read from the
# stream in another round, so these bound memory and lose nothing (guesses).
MAX_HELD = 4_096
MAX_HELD_BYTES = 8_388_608


class Track:
    """One topic that a node is subscribed to. Sans-IO.

    Pushes are handed on while they are dense. After a hole they are held, until the
    stream has been read and says what stood there. Pushes are hints, the stream is the
    truth.

    Attributes:
        topic: concrete.
        rules: of it.
        position: after which nothing has been delivered; None until first known.
        start: the first that was known: all after it was delivered, or will be.
        held: what came since the hole, oldest first; None while there is none.
    """

    def __init__(self, topic: str, rules: TopicRules) -> None:
        self.topic = topic
        self.rules = rules
        self.position: Position | None = None
        self.start: Position | None = None
        self.held: list[Delivery] | None = []
        self._held_bytes = 0
        self._is_short = False  # something did not fit into held

    def arrive(self, delivery: Delivery, node: Node) -> bool:
        """Take what was pushed. Returns False if the stream must be read first."""
        last, position = self.position, delivery.position
        if self.held is not None:
            self._hold(delivery)
            return False
        if last is not None and last.epoch == position.epoch:
            if position.offset <= last.offset:
                return True
            if position.offset == last.offset + 1:
                self._deliver(delivery, node)
                return True
        self.fall_behind()
        self._hold(delivery)
        return False

    def fall_behind(self) -> None:
        """Hold what comes, until ``resume`` says that nothing is missing."""
        if self.held is None:
            self.held = []

    def forget_held(self) -> None:
        """Start afresh on another connection."""
        self.held = []
        self._held_bytes = 0
        self._is_short = False

    def is_behind(self, top: Position) -> bool:
        """Return whether something up to ``top`` has not been delivered."""
        last = self.position
        return last is None or last.epoch != top.epoch or last.offset < top.offset

    def resume(
        self,
        top: Position,
        found: list[Delivery],
        *,
        until: int | None,
        older: int,
        node: Node,
    ) -> bool:
        """Deliver what was missing, and say what is lost.

        Call it when every push up to ``top`` has arrived here.

        Args:
            top: the end of the stream when it was read.
            found: what the stream keeps after ``position``, oldest first; after its
                beginning where the epoch is another one.
            until: offset up to which the stream was read, if not to its end.
            older: how many were held before the stream was read.

        Returns:
            True if it is live again, False if another round is needed.
        """
        held = self.held or []
        if self.position is None:
            self.position = self.start = (
                top  # just subscribed: what is after the end is wanted
            )
        # Of another life than the stream is in, and older than that: told as lost.
        held = [
            each
            for at, each in enumerate(held)
            if at >= older or each.position.epoch == top.epoch
        ]
        waiting = {
            each.position.offset: each
            for each in (*held, *found)
            if each.position.epoch == top.epoch
        }
        for offset in sorted(waiting):
            if until is None or offset <= until:
                self._pass(waiting[offset], node)
        end = top if until is None else Position(top.epoch, until)
        if self.is_behind(end):
            self._skip(end, node)
        if until is not None:
            self._keep(held)
            return False
        rest = [each for each in held if each.position.epoch != top.epoch]
        if rest or self._is_short:
            self._keep(rest)
            return False
        self.held = None
        self._held_bytes = 0
        return True

    def _pass(self, delivery: Delivery, node: Node) -> None:
        last, position = self.position, delivery.position
        is_next = last is not None and last.epoch == position.epoch
        if is_next and last is not None and position.offset <= last.offset:
            return
        if not is_next or last is None or position.offset > last.offset + 1:
            self._skip(Position(position.epoch, position.offset - 1), node)
        self._deliver(delivery, node)

    def _deliver(self, delivery: Delivery, node: Node) -> None:
        self.position = delivery.position
        node.deliver(delivery.message, delivery.exclude)

    def _skip(self, position: Position, node: Node) -> None:
        self.position = position
        node.skip(self.topic, position)

    def _hold(self, delivery: Delivery) -> None:
        assert self.held is not None
        size = delivery.message.size_bytes
        if len(self.held) >= MAX_HELD or self._held_bytes + size > MAX_HELD_BYTES:
            self._is_short = True
            return
        self.held.append(delivery)
        self._held_bytes += size

    def _keep(self, held: list[Delivery]) -> None:
        self.held = held
        self._held_bytes = sum(each.message.size_bytes for each in held)
        self._is_short = False
