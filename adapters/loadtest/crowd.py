"""The clients of one generator process."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from .client import Client, Room
from .dialing import ConnectError, Dialer
from .latencies import Latencies
from .plan import Plan
from .scenarios import CHURNING, Role, drop_s, publishers, roles
from .tally import Second, Sent, Tally, TallyResult
from .wires import address, speaker

__all__ = ("NS_PER_S", "Crowd", "Member", "sleep_until")

NS_PER_S = 1_000_000_000
PATIENCE_S = 30.0  # for the answer to a greeting; guess, as the handshake's
SCOUT_S = 5.0  # the same of the first client (guess)
MAX_AT_ONCE = 256  # handshakes while all connect (guess); those who return do not wait
MAX_KINDS = 32  # of reasons that are told apart; the rest is "other"
MAX_REASON = 200  # characters of a reason that are shown


class Member(NamedTuple):
    """A client, and what it is there for."""

    client: Client
    role: Role


class Crowd:
    """All clients of one process.

    Args:
        plan: of the test.
        process: which of its generator processes this is, from 0.

    Attributes:
        members: {number: client and role}, in the order they came.
        talkers: {publisher: client}.
        connecting: time until a client was accepted.
        away: numbers of those who dropped and will have all that they miss.
        delivered: all that was heard until ``is_quiet`` or ``heard`` was called.
        endings, silenced, refusals: as in ``messages.Results``.
    """

    def __init__(self, plan: Plan, process: int) -> None:
        self.delivered = 0
        self.members: dict[int, Member] = {}
        self.talkers: dict[int, Client] = {}
        self.connecting = Latencies()
        self.away: set[int] = set()
        self.endings: Counter[str] = Counter()
        self.silenced: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._refused: Counter[int] = Counter()
        self._plan = plan
        self._dialer = Dialer(plan)
        self._rooms: dict[int, Room] = {}
        self._tallies: dict[str, Tally] = {}
        self._heard: dict[str, Second] = {}  # taken from the tallies, and not told yet
        for role in roles(plan, process):
            self.add(role)

    def add(self, role: Role) -> Member:
        """Make a client; it is not connected yet."""
        plan, number, room = self._plan, role.client, role.room
        client = Client(
            number,
            self._rooms.setdefault(room, Room(room)),
            address(plan, client=number, room=room),
            speaker(plan, client=number, room=room, listens=role.duty.listens),
            self,
            publisher=number if role.duty.talks else None,
            slowness=role.slowness,
        )
        if role.duty.talks:
            self.talkers[number] = client
        member = self.members[number] = Member(client, role)
        return member

    async def connect(self, tell: Callable[[int], None]) -> None:
        """Connect all, as fast as the plan says and the server can.

        Args:
            tell: is called with how many are there, whenever one more is.

        Raises:
            ConnectError: one could not; says which, and no more are tried.
        """
        await self._dialer.resolve()
        at_once = asyncio.Semaphore(MAX_AT_ONCE)
        done = 0

        async def one(client: Client, at_ns: int, patience_s: float) -> None:
            nonlocal done
            await sleep_until(at_ns)
            async with at_once:
                try:
                    await self.dial(client, patience_s, due_ns=at_ns)
                except ConnectError as error:
                    at = f"client {client.number} at {client.url}"
                    raise ConnectError(f"{at}: {error}") from None
            done += 1
            tell(done)

        scout, *others = [client for client, _ in self.members.values()]
        # Alone, and less patient: a server that nobody has asked for anything is quick.
        await one(scout, time.monotonic_ns(), SCOUT_S)
        began_ns = time.monotonic_ns()
        try:
            async with asyncio.TaskGroup() as tasks:
                for client in others:
                    wait_ns = int(client.number / self._plan.ramp_per_s * NS_PER_S)
                    tasks.create_task(one(client, began_ns + wait_ns, PATIENCE_S))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def dial(
        self,
        client: Client,
        patience_s: float = PATIENCE_S,
        *,
        due_ns: int | None = None,
    ) -> None:
        """Connect a client, and note how long that took.

        Args:
            patience_s: longest wait for the answer to its greeting (s).
            due_ns: when it was to begin, whoever was in its way (ns); None for now.

        Raises:
            ConnectError: it could not.
        """
        began_ns = time.monotonic_ns() if due_ns is None else due_ns
        await client.connect(self._dialer, patience_s)
        self.connecting.record(time.monotonic_ns() - began_ns)

    def begin(self, start_ns: int, end_ns: int) -> None:
        """Count from now on what the clients hear; before anything is published.

        Args:
            start_ns, end_ns: the time that counts, by when messages are intended (ns).
        """
        for _, role in self.members.values():
            if role.duty.listens and role.audience not in self._tallies:
                tally = Tally(role.audience, start_ns=start_ns, end_ns=end_ns)
                self._tallies[role.audience] = tally
        for member in self.members.values():
            if member.role.duty.listens:
                self.listen(member)
                if not member.client.is_open:  # the server has ended it already
                    self.lost(member)

    def listen(self, member: Member, *, from_first: bool = False) -> None:
        """Give a client an ear of its own.

        Args:
            from_first: messages are due to it from the first on that it hears.
        """
        client, role = member
        ear = self._tallies[role.audience].ear(is_new=client.ear is None)
        for publisher in publishers(self._plan, role.room):
            if publisher != client.publisher:
                (ear.expect_from_first if from_first else ear.expect)(publisher)
        client.ear = ear

    def lost(self, member: Member) -> None:
        """Count that the server ended a client before anything was published."""
        if member.client.ear is not None:
            member.client.ear.left(ended_by_server=True)

    def connected(self) -> int:
        """Return how many clients are connected and accepted."""
        return sum(client.is_open for client, _ in self.members.values())

    def hearing(self) -> dict[int, int]:
        """Return to how many a message is due now, as ``messages.Tick`` has it."""
        rooms: Counter[int] = Counter()
        for number, (client, role) in self.members.items():
            if role.audience != CHURNING and client.ear is not None:
                rooms[role.room] += client.is_open or number in self.away
        return rooms

    def heard(self) -> dict[str, Second]:
        """Return what came since the last call, class by class."""
        self.is_quiet()
        heard, self._heard = self._heard, {}
        return heard

    def is_quiet(self) -> bool:
        """Return whether nothing new has come since the last call, or ``heard``."""
        is_quiet = True
        for name, tally in self._tallies.items():
            second = tally.take_second()
            is_quiet = is_quiet and not second.delivered
            self.delivered += second.delivered
            before = self._heard.get(name, Second(0, {}))
            latencies = Counter(before.latencies)
            latencies.update(second.latencies)
            self._heard[name] = Second(before.delivered + second.delivered, latencies)
        return is_quiet

    def read_on(self) -> None:
        """Have those who were slow read all that is there for them."""
        for client, _ in self.members.values():
            if client.slowness is not None:
                client.read_on()

    def close_tallies(self, sent: dict[int, Sent]) -> list[TallyResult]:
        """Return what has come of what was sent."""
        known = dict(sent)
        for publisher, client in self.talkers.items():
            if publisher in known:  # what it was refused since is known here alone
                refused = tuple(sorted(client.refused))
                known[publisher] = msgspec.structs.replace(
                    known[publisher], refused=refused
                )
        return [tally.close(known) for tally in self._tallies.values()]

    def give_up_on_the_absent(self) -> None:
        """Nothing is due any more to who has dropped and is not back."""
        for number in self.away:
            client = self.members[number].client
            if client.ear is not None:
                client.ear.left()

    def droppers(self) -> Iterator[tuple[float, Member]]:
        """Yield who is to drop and when (s, since publishing began), in that order."""
        for member in self.members.values():
            if (at_s := drop_s(self._plan, member.role.client)) is not None:
                yield at_s, member

    def leave(self) -> None:
        """Have all go, politely."""
        for client, _ in self.members.values():
            client.leave()

    def refused(self, client: Client, count: int, why: str) -> None:
        """Note that the server would not take so many publications."""
        _count(self.refusals, why, count)
        self._refused[client.room.number] += count

    def take_refused(self) -> dict[int, int]:
        """Return what was refused since the last call, {room: how many}."""
        refused, self._refused = self._refused, Counter()
        return refused

    def ended(self, client: Client, why: str) -> None:
        """Note that the server ended a connection."""
        _count(self.endings if client.publisher is None else self.silenced, why, 1)


async def sleep_until(at_ns: int) -> None:
    """Sleep until a time of ``time.monotonic_ns``'s clock, to the millisecond."""
    await asyncio.sleep(max(at_ns - time.monotonic_ns(), 0) / NS_PER_S)


def _count(kinds: Counter[str], why: str, times: int) -> None:
    # What a server says goes to terminals: no control characters.
    shown = "".join(each if each.isprintable() else "?" for each in why[:MAX_REASON])
    if shown not in kinds and len(kinds) >= MAX_KINDS:
        shown = "other"
    kinds[shown] += times
