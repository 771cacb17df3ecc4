"""Clients that drop and come back, and clients that leave while others come."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

from .crowd import NS_PER_S, Crowd, Member, sleep_until
from .dialing import ConnectError
from .latencies import Latencies
from .plan import Plan
from .scenarios import CHURNING, Duty, Role, churn_times

__all__ = ("Comings",)

# From a server's yes until it has put a client on its list (guess): some say yes first.
LISTED_S = 0.1
# After a failed return; doubled up to a second, and each a bit different, as SDKs do.
RETRY_S, MAX_RETRY_S = 0.05, 1.0


class Comings:
    """Has the clients of a crowd come and go as the scenario says.

    Attributes:
        returning: from the drop until a client could hear again, and had what it had
            missed.
        resumed: came back with everything.
        not_resumed: came back and were told that something is missing for good.
        absent: dropped, and are not back yet.
        unconnected: attempts that failed of clients that were to come, or come back.
    """

    def __init__(self, plan: Plan, process: int, crowd: Crowd) -> None:
        self.returning = Latencies()
        self.resumed = 0
        self.not_resumed = 0
        self.absent = 0
        self.unconnected = 0
        self._plan = plan
        self._process = process
        self._crowd = crowd
        self._passing = deque(
            member
            for member in crowd.members.values()
            if member.role.audience == CHURNING
        )

    def can_resume(self) -> bool:
        """Return whether those who will drop have a position to come back to."""
        droppers = self._crowd.droppers()
        return all(member.client.speaker.can_resume() for _, member in droppers)

    async def drop_all(self, start_ns: int) -> None:
        """Have those who are to drop do so, and return when all are back."""
        async with asyncio.TaskGroup() as tasks:
            for at_s, member in self._crowd.droppers():
                due_ns = start_ns + int(at_s * NS_PER_S)
                if due_ns > time.monotonic_ns():
                    await sleep_until(due_ns)
                if member.client.is_open:
                    tasks.create_task(self._drop(member))

    async def churn(self, start_ns: int, end_ns: int) -> None:
        """Have clients leave and others come, until ``end_ns``, and all have come."""
        async with asyncio.TaskGroup() as tasks:
            for at_s, number in churn_times(self._plan, self._process):
                due_ns = start_ns + int(at_s * NS_PER_S)
                if due_ns >= end_ns:
                    break
                await sleep_until(due_ns)
                if not self._passing:  # all of them are still connecting
                    self.unconnected += 1
                    continue
                client, role = self._passing.popleft()
                del self._crowd.members[client.number]
                if client.ear is not None:
                    client.ear.left(now_ns=time.monotonic_ns())
                client.leave()
                tasks.create_task(self._come(number, role.room))

    async def _come(self, number: int, room: int) -> None:
        member = self._crowd.add(Role(number, room, Duty.LISTEN, CHURNING))
        self._crowd.listen(member, from_first=True)
        try:
            await self._crowd.dial(member.client)
        except ConnectError as error:
            self.unconnected += 1
            self._crowd.ended(member.client, f"before it was accepted: {error}")
            del self._crowd.members[number]
        else:
            _came(member)
            self._passing.append(member)

    async def _drop(self, member: Member) -> None:
        client, number = member.client, member.role.client
        began_ns = time.monotonic_ns()
        self.absent += 1
        client.vanish()
        can_resume = client.speaker.can_resume()
        if can_resume:
            self._crowd.away.add(number)
        else:
            # What is published meanwhile is due to nobody.
            if client.ear is not None:
                client.ear.left()
            self._crowd.listen(member, from_first=True)
        await asyncio.sleep(self._plan.drop_s)
        await self._return(member)
        self._crowd.away.discard(number)
        self.absent -= 1
        self.returning.record(time.monotonic_ns() - began_ns)
        if not can_resume:
            _came(member)
        else:
            is_resumed = client.is_resumed is True
            self.resumed += is_resumed
            self.not_resumed += not is_resumed

    async def _return(self, member: Member) -> None:
        wait_s = RETRY_S
        while True:
            try:
                await self._crowd.dial(member.client)
            except ConnectError:
                self.unconnected += 1
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
                wait_s = min(wait_s * 2, MAX_RETRY_S)
            else:
                return


def _came(member: Member) -> None:
    """From now on messages are due to a newcomer, or one who has begun anew."""
    if member.client.ear is not None:
        member.client.ear.came(time.monotonic_ns() + int(LISTED_S * NS_PER_S))
