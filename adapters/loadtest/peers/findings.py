"""What the turns of a comparison come to, server by server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

import msgspec

from adapters.loadtest.compare import Comparison, Entry, Trial
from adapters.loadtest.report import Audience, Report
from adapters.loadtest.wording import HEALTHY, SLOW

from .catalogue import BASELINE

__all__ = ("Finding", "Spread", "find")

MIB = 1_048_576


class Spread(msgspec.Struct, frozen=True):
    """The middle and the ends of several turns; all 0 of none.

    Attributes:
        count: turns that it is of.
    """

    median: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise."""
        all_of_them = list(values)
        if not all_of_them:
            return cls()
        middle = median(all_of_them)
        return cls(middle, min(all_of_them), max(all_of_them), len(all_of_them))


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """What a stalled client does to a server and to the others.

    Attributes:
        p99_ms, max_ms: of the healthy.
        lost: of what was due to the healthy (0 to 1).
        has_ended: the server has ended the one that stalls.
        grown_mib: memory at its peak over that with all connected; None if unknown.
    """

    p99_ms: float
    max_ms: float
    lost: float
    has_ended: bool
    grown_mib: float | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One server over all rounds; a ratio is against the naive loop of its round.

    Attributes:
        capacity_per_s: the highest rate that it held, in deliveries (1/s).
        is_least: in some round the generator was at its end before the server.
        cost_us: processor time per delivery, paced (µs); ``full_cost_us`` at the
            highest rate that it held.
        peak_mib: most memory, paced.
        lost: of what was due, paced (0 to 1).
        stalled: None if that was not run.
        failed: why turns were over early.
    """

    entry: Entry
    capacity_per_s: Spread
    capacity_ratio: Spread
    is_least: bool
    p50_ms: Spread
    p99_ms: Spread
    cost_us: Spread
    cost_ratio: Spread
    full_cost_us: Spread
    peak_mib: Spread
    lost: float
    stalled: Stalled | None
    failed: tuple[str, ...]


def find(comparison: Comparison) -> list[Finding]:
    """Return what was found of each server that had a turn, in their order."""
    return [
        _finding(entry, comparison)
        for entry in comparison.entries
        if any(trial.peer == entry.name for trial in comparison.trials)
    ]


def _finding(entry: Entry, comparison: Comparison) -> Finding:
    trials = [trial for trial in comparison.trials if trial.peer == entry.name]
    base = {
        trial.number: trial for trial in comparison.trials if trial.peer == BASELINE
    }

    def spread(read: Callable[[Trial], float | None]) -> Spread:
        return Spread.of(value for value in map(read, trials) if value is not None)

    def ratio(read: Callable[[Trial], float | None]) -> Spread:
        pairs = [
            (read(trial), read(base[trial.number]))
            for trial in trials
            if trial.number in base
        ]
        return Spread.of(
            value / other for value, other in pairs if value is not None and other
        )

    def capacity(trial: Trial) -> float | None:
        if trial.capacity is None:
            return None
        return trial.capacity.rate_per_s * comparison.setup.listeners

    paced = [trial.paced for trial in trials if trial.paced]
    slow = [trial.slow for trial in trials if trial.slow]
    return Finding(
        entry=entry,
        capacity_per_s=spread(capacity),
        capacity_ratio=ratio(capacity),
        is_least=any(trial.capacity and trial.capacity.is_least for trial in trials),
        p50_ms=Spread.of(_healthy(report).latency.p50_ms for report in paced),
        p99_ms=Spread.of(_healthy(report).latency.p99_ms for report in paced),
        cost_us=spread(lambda trial: _cost(trial.paced)),
        cost_ratio=ratio(lambda trial: _cost(trial.paced)),
        full_cost_us=spread(lambda trial: _cost(trial.full)),
        peak_mib=Spread.of(
            report.server.peak_rss_bytes / MIB for report in paced if report.server
        ),
        lost=_lost(map(_healthy, paced)),
        stalled=_stalled(slow[0]) if slow else None,
        failed=tuple(trial.failed for trial in trials if trial.failed),
    )


def _stalled(report: Report) -> Stalled:
    healthy, server = _healthy(report), report.server
    grown = None
    if server is not None:
        grown = (server.peak_rss_bytes - server.connected_rss_bytes) / MIB
    return Stalled(
        p99_ms=healthy.latency.p99_ms,
        max_ms=healthy.latency.max_ms,
        lost=_lost([healthy]),
        has_ended=_named(report, SLOW).ended > 0,
        grown_mib=grown,
    )


def _healthy(report: Report) -> Audience:
    return _named(report, HEALTHY)


def _named(report: Report, name: str) -> Audience:
    found = (each for each in report.audiences if each.name == name)
    return next(found, Audience(name=name))


def _lost(audiences: Iterable[Audience]) -> float:
    all_of_them = list(audiences)
    due = sum(each.expected for each in all_of_them)
    return sum(each.missed_told + each.missed_untold for each in all_of_them) / (
        due or 1
    )


def _cost(report: Report | None) -> float | None:
    return report.server.cpu_us_per_delivery if report and report.server else None
