"""The ends of topics in the log, and what stands before them."""

from __future__ import annotations

import math
from collections import OrderedDict

from adapters.backplane.body import Delivery
from adapters.backplane.poison import Poison, Poisoned
from broker.message import Position

from .codec import Head, Names, Push, Record, decode_head, delivery_of
from .wire import Stored, Wire

__all__ = ("MAX_HEADS", "PAGE", "Heads")

# Guesses. A page is also bounded in bytes.
PAGE = 256
MAX_HEADS = 10_000  # remembered, so that most publishes are one round trip


class Heads:
    """What is read of topics. A head may be out of date: the server knows.

    Args:
        wire: one connection.
        names: of streams and subjects.
        poisoned: counts what is skipped.
    """

    def __init__(self, wire: Wire, names: Names, poisoned: Poisoned) -> None:
        self._wire = wire
        self._names = names
        self._poisoned = poisoned
        self._heads: OrderedDict[str, Head] = OrderedDict()

    def known(self, topic: str) -> Head | None:
        """Return the head of a topic, as last seen; None if it is not remembered."""
        return self._heads.get(topic)

    def note(self, push: Push) -> None:
        """Remember the head of a topic, which was pushed."""
        known = self._heads.get(push.topic)
        if known is not None and known.sequence < push.sequence:
            self.remember(push.topic, Head(push.sequence, push.record, math.inf))

    async def read(
        self, topic: str, start: int, end: int, count: int | None
    ) -> tuple[list[Stored], bool]:
        """Read records; True if the one at ``end`` is among them.

        Without ``count`` until it is; else one page, or more while they hold nothing.
        """
        subject = self._names.topic(topic)
        found: list[Stored] = []
        while True:
            page = await self._wire.page(self._names.log, subject, start, PAGE)
            found += [each for each in page if each.sequence <= end]
            if not page:
                return found, False
            if page[-1].sequence >= end:
                return found, any(each.sequence == end for each in page)
            start = page[-1].sequence + 1
            if count is not None and any(map(self._has_message, page)):
                return found, False

    def _has_message(self, stored: Stored) -> bool:
        return self.parse(stored)[1] is not None

    def parse(self, stored: Stored) -> tuple[Record | None, Delivery | None]:
        """Return a record and its message, each None if there is none."""
        topic = self._names.topic_of(stored.subject)
        try:
            record = decode_head(stored.data)
            return record, delivery_of(topic, record)
        except Poison as problem:
            self._poisoned.add(stored.subject[:80], problem)
            return None, None

    async def load(self, topic: str) -> Head:
        """Read the head of a topic."""
        subject = self._names.topic(topic)
        found = await self._wire.find(self._names.log, last_by_subj=subject)
        if found is None:
            return Head(0, None, 0.0)
        try:
            record = decode_head(found.data)
        except Poison as problem:
            self._poisoned.add(subject[:80], problem)
            return Head(found.sequence, None, found.time)
        head = Head(found.sequence, record, found.time)
        self.remember(topic, head)
        return head

    def remember(self, topic: str, head: Head) -> None:
        """Remember the head of a topic."""
        known = self._heads.get(topic)
        if known is not None and known.sequence > head.sequence:
            return  # pushed while this was on its way
        self._heads[topic] = head
        self._heads.move_to_end(topic)
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)

    def forget(self, topic: str, head: Head) -> None:
        """Forget a head that is out of date."""
        # It may have been pushed meanwhile, and then it is known.
        if self._heads.get(topic) is head:
            del self._heads[topic]

    def visible(self, head: Head, stored: list[Stored]) -> list[Delivery]:
        """Return what is history of what is stored."""
        rules = head.record
        assert rules is not None
        now = self._wire.server_time()
        found: list[Delivery] = []
        expected, size_bytes = rules.offset, 0
        for each in reversed(stored):
            record, delivery = self.parse(each)
            if record is None or delivery is None:
                continue
            size_bytes += delivery.message.size_bytes
            if (
                record.position != Position(rules.epoch, expected)
                or record.offset < rules.kept_from
                or now - each.time > record.ttl_ms / 1000
                or len(found) >= rules.size
                or size_bytes > rules.max_bytes
            ):
                break
            found.append(delivery)
            expected -= 1
        return found[::-1]
