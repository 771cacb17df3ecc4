"""What all processes tell, second by second and at the end, made into one report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from .latencies import Latencies
from .messages import Done, Results, Tick
from .plan import Plan, Scenario
from .progress import Phase
from .report import Audience, Latency, Moment
from .scenarios import CHURNING, HEALTHY, roles
from .tally import Sent

__all__ = ("Figures", "all_sent", "merged", "notes")


class Figures:
    """What is known while a test runs.

    Args:
        plan: of the test.

    Attributes:
        moments: the seconds so far.
        early_ends: the server has closed all connections.
    """

    def __init__(self, plan: Plan) -> None:
        self.moments: list[Moment] = []
        self._plan = plan
        self._ticks: list[Tick] = []  # not yet in a moment
        self._last: dict[int, int] = {}  # {process: number of its last tick}
        self._connected: dict[int, int] = {}  # {process: clients}
        self._due = 0  # to those who do not come and go
        self._delivered = 0
        self._classes: Counter[str] = Counter()
        self._latencies: defaultdict[str, Latencies] = defaultdict(Latencies)
        self._heard: Counter[str] = Counter()
        for process in range(plan.processes):
            for role in roles(plan, process):
                if role.duty.listens:
                    self._classes[role.audience] += 1

    def take(self, process: int, tick: Tick) -> None:
        """Take a second of one process."""
        self._ticks.append(tick)
        self._last[process] = tick.number
        self._connected[process] = tick.connected

    def has(self, number: int) -> bool:
        """Return whether all processes have told of a second."""
        last = self._last.values()
        return len(last) == self._plan.processes and min(last) >= number

    def connected(self) -> int:
        """Return how many clients were connected when last heard of."""
        return sum(self._connected.values())

    def finish(self, at_s: float) -> None:
        """Make the last moment of what has been told since the one before.

        Args:
            at_s: when that was (s, since counting began).
        """
        if self._ticks:
            self.moment(at_s)

    def moment(
        self, at_s: float, *, cpu: float | None = None, rss_bytes: int | None = None
    ) -> Moment:
        """Return a second, with all that has been told by now.

        Args:
            at_s: its end (s), since counting began.
            cpu, rss_bytes: the server's; None if unknown.
        """
        ticks, self._ticks = self._ticks, []
        latencies: defaultdict[str, Latencies] = defaultdict(Latencies)
        delivered = 0
        for tick in ticks:
            for name, second in tick.heard.items():
                latencies[name].add_counts(second.latencies)
                delivered += second.delivered
                if name != CHURNING:
                    self._delivered += second.delivered
                if tick.number > 0:
                    self._heard[name] += second.delivered
                    self._latencies[name].add_counts(second.latencies)
        self._due += self._newly_due(ticks)
        shown = latencies[self._shown()].percentiles_ms(50.0, 99.0, 100.0)
        moment = Moment(
            at_s=at_s,
            connected=self.connected(),
            sent=sum(sum(tick.sent.values()) for tick in ticks),
            delivered=delivered,
            outstanding=max(self._due - self._delivered, 0),
            p50_ms=shown[0],
            p99_ms=shown[1],
            max_ms=shown[2],
            late_ms=max((tick.late_ms for tick in ticks), default=0.0),
            server_cpu=cpu,
            server_rss_bytes=rss_bytes,
            generator_cpu=max((tick.cpu for tick in ticks), default=0.0),
        )
        self.moments.append(moment)
        return moment

    def audiences(self) -> tuple[Audience, ...]:
        """Return the classes, with what is known while the test runs."""
        return tuple(
            Audience(
                name=name,
                clients=clients,
                delivered=self._heard[name],
                latency=self._latencies[name].summary(),
            )
            for name, clients in self._classes.items()
        )

    def phase(self, number: int) -> tuple[Phase, float, float]:
        """Return the phase at a second, how far it has come and its length (s)."""
        plan = self._plan
        if number <= 0:
            return Phase.WARM_UP, max(number + plan.warmup_s, 0.0), plan.warmup_s
        if number <= plan.duration_s:
            return Phase.MEASURING, number, plan.duration_s
        return Phase.SETTLING, number - plan.duration_s, plan.settle_s

    def _shown(self) -> str:
        """Return the class whose latencies a moment shows."""
        return HEALTHY if HEALTHY in self._classes else next(iter(self._classes), "")

    def _newly_due(self, ticks: Iterable[Tick]) -> int:
        """Return what came to be due; who drops within the second is not looked at."""
        sent: Counter[int] = Counter()
        hearing: Counter[int] = Counter()
        for tick in ticks:
            sent.update(tick.sent)
            sent.subtract(tick.refused)
            hearing.update(tick.hearing)
        self_heard = self._plan.scenario is Scenario.CHAT  # which is not due
        return sum(
            times * max(hearing[room] - self_heard, 0) for room, times in sent.items()
        )


def all_sent(parts: Iterable[Done]) -> dict[int, Sent]:
    """Return {publisher: what it has sent}, of all processes."""
    return {publisher: sent for part in parts for publisher, sent in part.sent.items()}


def merged(encoded: Iterable[str]) -> Latency:
    """Return the distribution of what all processes have measured."""
    latencies = Latencies()
    for each in encoded:
        latencies.add(each)
    return latencies.summary()


def notes(results: Iterable[Results]) -> list[str]:
    """Return what the server did that no other figure says, in sentences."""
    silenced: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    away = 0
    for each in results:
        silenced.update(each.silenced)
        refusals.update(each.refusals)
        endings.update(each.endings)
        away += each.away
    said = [
        f"The server closed the connections of {_many(times, 'publisher')} ({why}): "
        "nothing was published by them from then on."
        for why, times in silenced.most_common()
    ]
    said += [
        f"The server refused {_many(times, 'message')} ({why}); they were due to "
        "nobody."
        for why, times in refusals.most_common()
    ]
    if away:
        said.append(
            f"{_many(away, 'client')} did not come back before the end: settle longer "
            "to see how long it takes them."
        )
    said += [
        f"The server ended {_many(times, 'connection')}: {why}."
        for why, times in endings.most_common()
    ]
    return said


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)
