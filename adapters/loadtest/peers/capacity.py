"""The highest rate that a server holds, found by trying."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from adapters.loadtest.report import Report

__all__ = ("Capacity", "Outcome", "judge", "search")

P99_MS = 250.0  # above it people notice, and it is a queue that grows (guess)
SENT = 0.95  # of what was intended (guess)
BUSY = 0.9  # of a core: whoever is above it may be what is slow (guess)
IDLE = (
    0.6  # of a core: who has so much left does not fall behind for want of it (guess)
)
FACTOR = 1.4  # between two tries; with one more between, what is found is known to 18 %
TRIES = 18  # from the guess, 1.4 ** 17 is a factor of 300
LEAST_PER_S = 1.0


class Outcome(StrEnum):
    """What one try has shown."""

    HELD = "held"
    BEHIND = "behind"  # the server lost something, or what waits for it grows
    UNKNOWN = "unknown"  # the generator was too busy to say
    DISTURBED = "disturbed"  # behind, and yet neither was busy: others use the machine


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the tries have found.

    Attributes:
        rate_per_s: the highest that was held (1/s); 0 if none was.
        is_least: the generator was at its end before the server: it may hold more.
        tries: each rate, and what it has shown, in the order of the tries.
    """

    rate_per_s: float
    is_least: bool
    tries: tuple[tuple[float, Outcome], ...]


def judge(report: Report) -> Outcome:
    """Say whether a server has kept up with one short run.

    Kept up: all was taken, nothing was lost, no connection ended, and 99 of 100
    deliveries took 250 ms or less from their intended time.
    """
    healthy = report.audiences
    plan = report.plan
    # A server that does not read any more leaves nothing to lose.
    is_sent = report.sent >= SENT * plan.rate_per_s * plan.duration_s - 1
    has_all = is_sent and all(
        each.expected
        and not each.missed_told
        and not each.missed_untold
        and not each.ended
        for each in healthy
    )
    if has_all and all(each.latency.p99_ms <= P99_MS for each in healthy):
        return Outcome.HELD
    server = report.server.cpu if report.server else 1.0
    if server > BUSY:
        return Outcome.BEHIND
    if max(report.generators.cpu, default=0.0) > BUSY:
        return Outcome.UNKNOWN
    return Outcome.BEHIND if server > IDLE else Outcome.DISTURBED


def search(attempt: Callable[[float], Outcome], guess_per_s: float) -> Capacity:
    """Return the highest rate that is held.

    In steps of 1.4 from the guess, up or down, until one rate is held and the next is
    not; then once between the two. A try that was disturbed is made once more. Noise
    can end it early all the same, and shows as spread between rounds.
    """
    tries: dict[float, Outcome] = {}

    def holds(rate: float) -> bool:
        tries[rate] = attempt(rate)
        if tries[rate] is Outcome.DISTURBED:
            tries[rate] = attempt(rate)
        return tries[rate] is Outcome.HELD

    rate = max(guess_per_s, LEAST_PER_S)
    held, failed = 0.0, 0.0
    while len(tries) < TRIES and not (held and failed):
        if holds(rate):
            held, rate = rate, rate * FACTOR
        elif rate <= LEAST_PER_S:
            break
        else:
            failed, rate = rate, max(rate / FACTOR, LEAST_PER_S)
    if held and failed:
        middle = (held * failed) ** 0.5
        if holds(middle):
            held = middle
        else:
            failed = middle
    is_least = tries.get(failed) is Outcome.UNKNOWN or (held > 0 and not failed)
    return Capacity(rate_per_s=held, is_least=is_least, tries=tuple(tries.items()))
