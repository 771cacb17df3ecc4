"""Charts of how latencies are distributed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import ceil, floor, log10

import msgspec

from adapters.loadtest.latencies import Latencies
from adapters.loadtest.report import Latency
from adapters.loadtest.wording import count, healthy_first, main_latency, ms, percent

from .axis import linear, logarithmic, percentiles
from .chart import Chart, Line, Reading
from .runs import Run

__all__ = ("Distribution", "distributions", "histogram", "percentile_curve")

US_PER_MS = 1000
BINS = 10  # of the histogram, for each power of ten
STEPS = 120  # of the percentile curve


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one line.

    Attributes:
        name: of the line.
        values_ms: distinct times, ascending (ms, > 0).
        ranks: how many are at most as long, for each of them.
    """

    name: str
    hue: int
    values_ms: list[float]
    ranks: list[int]

    @property
    def total(self) -> int:
        """How many times there are."""
        return self.ranks[-1]

    def at(self, percentile: float) -> float:
        """Return the shortest time (ms) that so many per cent do not exceed."""
        rank = max(ceil(percentile / 100 * self.total - 1e-9), 1)
        return self.values_ms[bisect_left(self.ranks, rank)]

    def bins(self) -> dict[int, int]:
        """Return {n: times} for the times from 10^(n / BINS) ms to the next n."""
        found: dict[int, int] = {}
        before = 0
        for value, rank in zip(self.values_ms, self.ranks, strict=True):
            index = floor(log10(value) * BINS + 1e-9)
            found[index] = found.get(index, 0) + rank - before
            before = rank
        return found


def distributions(runs: Sequence[Run]) -> list[Distribution]:
    """Return what there is to draw: of one test its classes, of several each test's."""
    if len(runs) == 1:
        named = [
            (audience.name, hue, audience.latency)
            for hue, audience in enumerate(healthy_first(runs[0].report.audiences))
        ]
    else:
        named = [(run.letter, run.hue, main_latency(run.report)) for run in runs]
    return [_decode(*each) for each in named if each[2].histogram]


def _decode(name: str, hue: int, latency: Latency) -> Distribution:
    latencies = Latencies()
    latencies.add(latency.histogram)
    counts = sorted(latencies.take().items())
    return Distribution(
        name=name,
        hue=hue,
        values_ms=[max(us, 1) / US_PER_MS for us, _ in counts],
        ranks=list(accumulate(times for _, times in counts)),
    )


def percentile_curve(found: Sequence[Distribution]) -> Chart:
    """Return latency over percentiles; each label on its axis is ten times rarer."""
    x = percentiles(max(each.total for each in found))
    furthest = x.scale(x.high)
    shown = [100 * (1 - 10 ** (-furthest * n / STEPS)) for n in range(STEPS + 1)]
    lines = [
        Line(
            name=each.name,
            hue=each.hue,
            points=[
                (p, each.at(p))
                for p in shown
                # What is rarer than one of all is no percentile of theirs.
                if p * each.total <= 100 * (each.total - 1) + 1e-6 or p == 0
            ],
        )
        for each in found
    ]
    edges = [shown[0], *((a + b) / 2 for a, b in pairwise(shown))]
    readings = [
        Reading(
            low=low,
            high=high,
            text=f"{_percentile(p)}: "
            + ", ".join(f"{each.name} {ms(each.at(p))}" for each in found),
        )
        for low, high, p in zip(edges, [*edges[1:], shown[-1]], shown, strict=True)
    ]
    tails = (f"{each.name}: 99 % within {ms(each.at(99))}" for each in found)
    return Chart(
        key="percentiles",
        title="Latency by percentile",
        note="So many per cent of the deliveries took at most so long.",
        summary="; ".join(tails) + ".",
        x=x,
        y=logarithmic([y for line in lines for _, y in line.points if y], ms),
        lines=lines,
        readings=readings,
    )


def _percentile(value: float) -> str:
    """Return a percentile with as many nines as tell it from all."""
    digits = max(0, ceil(-log10(1 - value / 100)) - 1) if value else 0
    return f"{value:.{digits}f} %"


def histogram(found: Sequence[Distribution]) -> Chart:
    """Return the share of deliveries that took so long, in steps of a tenth decade."""
    binned = [each.bins() for each in found]
    indexes = sorted({index for bins in binned for index in bins})
    every = range(indexes[0], indexes[-1] + 1)
    edges = {n: float(10 ** (n / BINS)) for n in range(every[0], every[-1] + 2)}
    lines = [
        Line(
            name=each.name,
            hue=each.hue,
            points=[
                (edge, share)
                for n in every
                for edge in (edges[n], edges[n + 1])
                for share in [bins.get(n, 0) / each.total]
            ],
            is_filled=len(found) == 1,
        )
        for each, bins in zip(found, binned, strict=True)
    ]
    readings = [
        Reading(
            low=edges[n],
            high=edges[n + 1],
            text=f"{ms(edges[n])} to {ms(edges[n + 1])}: "
            + ", ".join(
                f"{each.name} {percent(bins.get(n, 0) / each.total)}"
                f" ({count(bins.get(n, 0))})"
                for each, bins in zip(found, binned, strict=True)
            ),
        )
        for n in every
    ]
    middles = (f"{each.name}: half within {ms(each.at(50))}" for each in found)
    return Chart(
        key="histogram",
        title="Latency histogram",
        note="Share of the deliveries that took so long.",
        summary="; ".join(middles) + ".",
        x=logarithmic(edges.values(), ms),
        y=linear((y for line in lines for _, y in line.points if y), percent),
        lines=lines,
        readings=readings,
    )
