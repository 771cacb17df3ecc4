"""Our server and its peers on the same scenarios, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import msgspec

from .coordinator import BenchError
from .peers.capacity import Capacity, Outcome, judge, search
from .peers.catalogue import Peer
from .peers.installing import Home
from .peers.serving import NotServing, Serving, confined, serve, share_cores
from .plan import Plan, Scenario
from .preflight import PreflightError
from .report import Report

__all__ = ("Comparison", "Entry", "Run", "Setup", "Trial", "compare")

Run: TypeAlias = Callable[[Plan], Report]  # as coordinator.run
Say: TypeAlias = Callable[[str], None]

WARMUP_S = 0.5
SETTLE_S = 2.0
RAMP_PER_S = 1_000.0
# One of these stalls. The kernel holds some 2 MB for a client that does not read
# (measured); these messages pass that within two seconds.
SLOW_LISTENERS = 100
SLOW_BYTES = 61_440
SLOW_PER_S = 20.0
SLOW_S = 4.0
# Of what the processor time of the paced run promises: the search goes up from there.
CAUTION = 0.8


class Setup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every server has to do.

    Attributes:
        listeners: clients that hear; one more publishes (>= 1).
        size_bytes: of a message (bytes).
        rate_per_s: of the paced run, which all should hold (1/s).
        paced_s: how long the paced run counts (s).
        try_s: how long one try of the search for the highest rate counts (s).
        rounds: how often each server has its turn (>= 1).
        has_capacity: search for the highest rate.
        has_slow: in the first round, a run of large messages with a stalled client.
    """

    listeners: int = 100
    size_bytes: int = 128
    rate_per_s: float = 12.0
    paced_s: float = 3.0
    try_s: float = 1.5
    rounds: int = 3
    has_capacity: bool = True
    has_slow: bool = True


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a comparison; ``skipped`` says why it has had no turn."""

    name: str
    label: str
    versions: tuple[str, ...] = ()
    skipped: str = ""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One server's turn in one round; what is None was not run.

    Attributes:
        number: of the round, from 0.
        paced: the run that all should hold.
        slow: the run with a stalled client.
        capacity: what the search has found.
        full: the run at the highest rate that was held.
        failed: why the turn was over early; what came before it stands.
    """

    peer: str
    number: int
    paced: Report | None = None
    slow: Report | None = None
    capacity: Capacity | None = None
    full: Report | None = None
    failed: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        started: when (ISO 8601, UTC).
        is_complete: False if it was interrupted: turns so far.
        is_pinned: the server had a core of its own, and the generators the others.
        seconds: how long it took (s).
    """

    started: str
    setup: Setup
    entries: tuple[Entry, ...]
    trials: tuple[Trial, ...]
    is_complete: bool = True
    is_pinned: bool = False
    seconds: float = 0.0


def compare(
    peers: Mapping[Peer, Home], setup: Setup, *, run: Run, say: Say
) -> Iterator[Trial]:
    """Yield each server's turn of each round, as soon as it is over.

    Every turn has a fresh server. Every second round goes backwards, so that none
    comes always after the same neighbour.

    Args:
        run: does one load test.
        say: is told what is done now, in one line.

    Raises:
        KeyboardInterrupt: somebody wants it to end. No server is left.
    """
    rates: dict[Peer, float] = {}
    for number in range(setup.rounds):
        for peer in list(peers)[:: 1 if number % 2 == 0 else -1]:
            head = f"round {number + 1} of {setup.rounds}, {peer.label}: "
            turn = _Turn(peer, setup, run, partial(_say_of, say, head))
            trial = turn.take(peers[peer], number, rates.get(peer))
            if trial.capacity:
                rates[peer] = trial.capacity.rate_per_s
            yield trial


class _Turn:
    """What one server has to do, step by step."""

    def __init__(self, peer: Peer, setup: Setup, run: Run, say: Say) -> None:
        self._peer = peer
        self._setup = setup
        self._run = run
        self._say = say

    def take(self, home: Home, number: int, held_per_s: float | None) -> Trial:
        """Start the server, do all, and end it.

        Args:
            held_per_s: the highest rate of the last round, if there was one.
        """
        trial = Trial(peer=self._peer.name, number=number)
        on, beside = share_cores()
        try:
            with serve(self._peer, home, on) as serving, confined(beside):
                for known in self._steps(serving, number, held_per_s):
                    trial = msgspec.structs.replace(trial, **known)
        except (NotServing, BenchError, PreflightError) as error:
            trial = msgspec.structs.replace(trial, failed=str(error))
        return trial

    def _steps(
        self, serving: Serving, number: int, held_per_s: float | None
    ) -> Iterator[dict[str, Any]]:
        """Yield fields of a trial as they become known."""
        setup = self._setup
        self._say(f"{setup.rate_per_s:g} messages/s to {setup.listeners}")
        paced = self._load(self._plan(serving))
        yield {"paced": paced}
        if setup.has_slow and number == 0:
            self._say(f"1 of {SLOW_LISTENERS} stalls")
            yield {"slow": self._load(self._slow_plan(serving))}
        if setup.has_capacity:
            guess = held_per_s or _promised(paced, setup)
            yield from self._capacity(serving, guess)

    def _capacity(self, serving: Serving, guess: float) -> Iterator[dict[str, Any]]:
        reports: dict[float, Report] = {}

        def attempt(rate: float) -> Outcome:
            plan = self._plan(serving, rate_per_s=rate, duration_s=self._setup.try_s)
            reports[rate] = self._load(plan)
            outcome = judge(reports[rate])
            self._say(f"{rate:,.0f} messages/s: {outcome}")
            return outcome

        capacity = search(attempt, guess)
        yield {"capacity": capacity, "full": reports.get(capacity.rate_per_s)}

    def _plan(self, serving: Serving, **changes: Any) -> Plan:
        plan = Plan(
            url=serving.url,
            wire=self._peer.wire,
            topic=self._peer.topic,
            clients=self._setup.listeners + 1,
            rate_per_s=self._setup.rate_per_s,
            size_bytes=self._setup.size_bytes,
            warmup_s=WARMUP_S,
            duration_s=self._setup.paced_s,
            settle_s=SETTLE_S,
            ramp_per_s=RAMP_PER_S,
            pid=serving.pid,
            label=self._peer.label,
        )
        return msgspec.structs.replace(plan, **changes)

    def _slow_plan(self, serving: Serving) -> Plan:
        return self._plan(
            serving,
            scenario=Scenario.SLOW,
            slow_share=1 / SLOW_LISTENERS,
            clients=SLOW_LISTENERS + 1,
            size_bytes=SLOW_BYTES,
            rate_per_s=SLOW_PER_S,
            duration_s=SLOW_S,
        )

    def _load(self, plan: Plan) -> Report:
        report = self._run(plan)
        # Else it was the server that ended it, by closing all connections.
        if not report.is_complete and report.moments and report.moments[-1].connected:
            raise KeyboardInterrupt
        return report


def _say_of(say: Say, head: str, words: str) -> None:
    say(head + words)


def _promised(paced: Report, setup: Setup) -> float:
    """Return the rate (1/s) that a whole core would give, with some caution."""
    cost_us = paced.server.cpu_us_per_delivery if paced.server else 0.0
    if not cost_us:
        return setup.rate_per_s
    return CAUTION * 1e6 / cost_us / setup.listeners
