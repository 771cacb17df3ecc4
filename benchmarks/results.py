"""What a benchmark hands to the report: tables, bars, and targets reached or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from statistics import median
from typing import TypeVar

__all__ = ("Bar", "Chart", "Outcome", "Section", "Spread", "Verdict", "alternate")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of several runs of one thing."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(median(values), min(values), max(values))

    @classmethod
    def ratios(cls, values: Sequence[float], baseline: Sequence[float]) -> Spread:
        """Divide run by run: each is compared with its neighbour in time."""
        pairs = zip(values, baseline, strict=True)
        return cls.of([value / base if base else nan for value, base in pairs])

    def show(self, style: str = ".2f", suffix: str = "") -> str:
        """Return ``median (lowest to highest)``."""
        low, high = f"{self.lowest:{style}}", f"{self.highest:{style}}"
        return f"{self.median:{style}}{suffix} ({low} to {high})"

    def show_rate(self) -> str:
        """Return ``median (lowest to highest)`` in thousands."""
        thousands = (self.median / 1e3, self.lowest / 1e3, self.highest / 1e3)
        digits = 0 if thousands[0] >= 100 else 1
        middle, low, high = (f"{each:,.{digits}f}" for each in thousands)
        return f"{middle} k ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the report, with what has to be known to read it."""

    title: str
    prose: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of the design, and whether this run reached it."""

    target: str
    measured: str
    is_reached: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its height, and the lowest and highest run as a whisker."""

    group: str
    label: str
    spread: Spread


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars in groups. The first label of each group is ours, and is coloured so."""

    name: str
    title: str
    unit: str
    bars: Sequence[Bar]


@dataclass(slots=True)
class Outcome:
    """All that one benchmark program has found.

    Attributes:
        notes: paragraphs above all tables.
        figures: {what was measured: one value per run}, for programs that read it.
    """

    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)


def alternate(
    contenders: Mapping[str, Callable[[], T]], runs: int
) -> dict[str, list[T]]:
    """Run each in turn, ``runs`` times over: what disturbs the machine hits all.

    Every second time round the order is reversed, so that none always comes first.
    """
    names = list(contenders)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(runs):
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(contenders[name]())
    return results
