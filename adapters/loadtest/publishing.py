"""Sending at the times that were intended, whatever the server does: an open loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from .client import Client
from .crowd import NS_PER_S
from .latencies import Latencies
from .pacing import Alarm
from .plan import Plan
from .scenarios import pacing
from .tally import Sent

__all__ = ("Publishing",)

TURN = 64  # messages that are late, between two looks at what has come
GIVE_UP_S = 2  # guess
MARK_NS = NS_PER_S  # between two messages of which is noted when they were due


class Publishing:
    """What one process publishes.

    A message that is late goes out at once; how late is noted, and its stamp says when
    it should have. Where the socket of its publisher takes no more it is not sent at
    all: that is counted, and waits nowhere.

    Args:
        plan: of the test.
        process: which of its generator processes this is, from 0.
        talkers: {publisher: client}.
        count_from_ns: messages that are intended from then on count (ns).

    Attributes:
        lateness: of the messages that count.
        unsent: messages that count and could not be sent.
    """

    def __init__(
        self,
        plan: Plan,
        process: int,
        talkers: Mapping[int, Client],
        *,
        count_from_ns: int,
    ) -> None:
        self.lateness = Latencies()
        self.unsent = 0
        self._plan = plan
        self._process = process
        self._talkers = talkers
        self._count_from_ns = count_from_ns
        self._first: dict[int, int] = {}
        self._end: dict[int, int] = {}
        self._marks: dict[int, list[tuple[int, int]]] = {}
        self._rooms: dict[int, int] = {}
        self._worst_ns = 0

    async def publish(self, start_ns: int, end_ns: int) -> None:
        """Publish what is intended before ``end_ns`` (ns), until all of it is sent.

        What cannot be sent within two seconds after that is unsent.
        """
        late = 0
        give_up_ns = end_ns + GIVE_UP_S * NS_PER_S
        with Alarm() as alarm:
            for at_s, publisher in pacing(self._plan, self._process):
                intended_ns = start_ns + int(at_s * NS_PER_S)
                if intended_ns >= end_ns:
                    return
                now_ns = time.monotonic_ns()
                if now_ns > give_up_ns:
                    self.unsent += intended_ns >= self._count_from_ns
                    continue
                if intended_ns > now_ns:
                    late = 0
                    await alarm.wait_until(intended_ns)
                elif (late := late + 1) % TURN == 0:
                    await asyncio.sleep(0)
                self._send(publisher, intended_ns)

    def sent(self) -> dict[int, Sent]:
        """Return {publisher: what it has sent}."""
        sent = {}
        for publisher, client in self._talkers.items():
            first = self._first.get(publisher, client.sent)
            end = self._end.get(publisher, first)
            marks = tuple(self._marks.get(publisher, ()))
            refused = tuple(sorted(client.refused))
            sent[publisher] = Sent(client.sent, first, end, marks, refused)
        return sent

    def take_second(self) -> tuple[dict[int, int], float]:
        """Return what was sent since the last call, {room: how many}, and how late the
        latest was (ms).
        """
        rooms, self._rooms = self._rooms, {}
        worst_ns, self._worst_ns = self._worst_ns, 0
        return rooms, worst_ns / 1e6

    def _send(self, publisher: int, intended_ns: int) -> None:
        late_ns = time.monotonic_ns() - intended_ns
        self._worst_ns = max(self._worst_ns, late_ns)
        does_count = intended_ns >= self._count_from_ns
        if does_count:
            self.lateness.record(late_ns)
        client = self._talkers[publisher]
        number = client.sent
        if not client.publish(intended_ns, self._plan.size_bytes):
            self.unsent += does_count
            return
        marks = self._marks.setdefault(publisher, [])
        if not marks or intended_ns - marks[-1][1] >= MARK_NS:
            marks.append((number, intended_ns))
        room = client.room.number
        self._rooms[room] = self._rooms.get(room, 0) + 1
        if does_count:
            self._first.setdefault(publisher, number)
            self._end[publisher] = number + 1
