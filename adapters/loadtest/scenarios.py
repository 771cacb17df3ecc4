"""Who does what in a load test, and when: all of it follows from the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from .plan import Plan, Scenario, Slowness

__all__ = (
    "CHURNING",
    "HEALTHY",
    "RESUMING",
    "SLOW",
    "Duty",
    "Role",
    "churn_times",
    "drop_s",
    "pacing",
    "publishers",
    "roles",
)

# Names of classes, as in ``report.Audience``.
HEALTHY, SLOW, RESUMING, CHURNING = "healthy", "slow", "resuming", "churning"


class Duty(Enum):
    """What a client is there for."""

    TALK = auto()
    LISTEN = auto()
    BOTH = auto()

    @property
    def talks(self) -> bool:
        """It publishes."""
        return self is not Duty.LISTEN

    @property
    def listens(self) -> bool:
        """Something is due to it."""
        return self is not Duty.TALK


class Role(NamedTuple):
    """One client's part.

    Attributes:
        client: its number in the whole test; as a publisher it has the same.
        room: where it is.
        audience: the class it is counted in; "" of one that only publishes.
        slowness: how it does not read; None for one that reads.
    """

    client: int
    room: int
    duty: Duty
    audience: str = ""
    slowness: Slowness | None = None


def roles(plan: Plan, process: int) -> Iterator[Role]:
    """Yield the clients of one generator process, in the order they connect.

    The first clients are the publishers, one for each room; in a chat all are.
    """
    for client in range(process, plan.clients, plan.processes):
        room = client % plan.rooms
        if plan.scenario is Scenario.CHAT:
            yield Role(client, room, Duty.BOTH, HEALTHY)
        elif client < plan.rooms:
            yield Role(client, room, Duty.TALK)
        else:
            audience = _audience(plan, client)
            slowness = plan.slowness if audience == SLOW else None
            yield Role(client, room, Duty.LISTEN, audience, slowness)


def publishers(plan: Plan, room: int) -> range:
    """Return the numbers of those who publish in a room."""
    if plan.scenario is Scenario.CHAT:
        return range(room, plan.clients, plan.rooms)
    return range(room, room + 1)


def pacing(plan: Plan, process: int) -> Iterator[tuple[float, int]]:
    """Yield what this process is to send, without end: when (s), and which publisher.

    All publishers of the test take turns, evenly spread over time; times are since
    publishing began.
    """
    count = plan.clients if plan.scenario is Scenario.CHAT else plan.rooms
    own = range(process, count, plan.processes)
    if not own:
        return
    turn = 0
    while True:
        for publisher in own:
            yield (turn + publisher) / plan.rate_per_s, publisher
        turn += count


def drop_s(plan: Plan, client: int) -> float | None:
    """Return when a client drops (s, since publishing began); None if it never does."""
    if client < plan.rooms:
        return None
    if plan.scenario is Scenario.STORM:
        return plan.warmup_s + plan.duration_s / 2
    if plan.scenario is Scenario.RESUME:
        # So that the last is back, and has heard something, before the end.
        span_s = plan.duration_s - min(plan.drop_s, plan.duration_s / 2)
        listeners = plan.clients - plan.rooms
        place = (client - plan.rooms + 0.5) / listeners
        return plan.warmup_s + place * span_s
    return None


def churn_times(plan: Plan, process: int) -> Iterator[tuple[float, int]]:
    """Yield when one client of this process leaves and another comes, without end.

    The times (s) are since publishing began; with each comes the number of the new one.
    """
    if plan.scenario is not Scenario.CHURN or plan.churn_per_s <= 0:
        return
    turn = process
    while True:
        yield (turn + 0.5) / plan.churn_per_s, plan.clients + turn
        turn += plan.processes


def _audience(plan: Plan, client: int) -> str:
    match plan.scenario:
        case Scenario.STORM | Scenario.RESUME:
            return RESUMING
        case Scenario.CHURN:
            # In each room every other one, so that it has both kinds.
            is_next = (client // plan.rooms) % 2 == 0
            return CHURNING if is_next else HEALTHY
        case Scenario.SLOW:
            return SLOW if _is_slow(plan, client) else HEALTHY
        case _:
            return HEALTHY


def _is_slow(plan: Plan, client: int) -> bool:
    """Spread the slow over the listeners, room after room; one at least."""
    listeners = plan.clients - plan.rooms
    room, place = client % plan.rooms, client // plan.rooms - 1
    smallest, larger = divmod(listeners, plan.rooms)
    at = room * smallest + min(room, larger) + place
    share = plan.slow_share
    return math.ceil((at + 1) * share) > math.ceil(at * share)
