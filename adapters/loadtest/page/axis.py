"""Axes: where a value stands, and which values get a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import ceil, floor, log10

import msgspec

__all__ = ("Axis", "linear", "logarithmic", "percentiles", "span")

MOST_TICKS = 6
FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # as far as the base goes
# 1 of 10, of 100 …: what is not within a percentile halves its distance from the end.
PERCENTILES = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999)


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """A scale with labels.

    Attributes:
        low: value at its beginning.
        high: value at its end, more than ``low``.
        scale: makes a value a distance.
        ticks: {value: label}, in order; all within ``low`` and ``high``.
    """

    low: float
    high: float
    scale: Callable[[float], float]
    ticks: dict[float, str]

    def at(self, value: float) -> float:
        """Return where a value stands: from 0, at the beginning, to 1, at the end."""
        low, high = self.scale(self.low), self.scale(self.high)
        clamped = min(max(value, self.low), self.high)
        return (self.scale(clamped) - low) / (high - low)


def linear(
    values: Iterable[float], label: Callable[[float], str], *, base: float = 10
) -> Axis:
    """Return an axis from 0 (or less, if values are) past the highest value.

    Args:
        values: what it must reach.
        label: of a tick.
        base: ticks are 1, 2 or 5 times a power of this.
    """
    found = list(values)
    low, high = min([0.0, *found]), max([0.0, *found])
    if high <= low:
        high = low + 1
    step = _step((high - low) / MOST_TICKS, base)
    first = ceil(low / step - 1e-9)
    last = ceil(high / step - 1e-9)
    ticks = {n * step: label(n * step) for n in range(first, last + 1)}
    # No less than the highest value, which it may be by a rounding.
    return Axis(low=low, high=max(high, last * step), scale=float, ticks=ticks)


def _step(least: float, base: float) -> float:
    power: float = 1.0
    while power > least:
        power /= base
    while power * base <= least:
        power *= base
    factors = [*(f for f in FACTORS if f < base), base]
    return next(power * f for f in factors if power * f >= least * (1 - 1e-9))


def span(low: float, high: float, label: Callable[[float], str]) -> Axis:
    """Return a linear axis that begins and ends where it is told."""
    step = _step((high - low) / MOST_TICKS, 10)
    numbers = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    return Axis(
        low=low,
        high=high,
        scale=float,
        ticks={n * step: label(n * step) for n in numbers},
    )


def logarithmic(values: Iterable[float], label: Callable[[float], str]) -> Axis:
    """Return an axis over all values above 0, from a round one to a round one."""
    found = [value for value in values if value > 0]
    if not found:
        found = [1.0, 10.0]
    rounds = list(_rounds(min(found), max(found)))
    low, high = rounds[0], rounds[-1]
    decades = log10(high / low)
    told = [r for r in rounds if decades < 2 or _is_power(r)]
    return Axis(
        low=low, high=high, scale=log10, ticks={value: label(value) for value in told}
    )


def _rounds(lowest: float, highest: float) -> Iterator[float]:
    """Yield 1, 2 and 5 times powers of ten, at least from the lowest to the highest."""
    power = floor(log10(lowest)) - 1  # one less, for what rounds up to a power
    last_power = ceil(log10(highest)) + 1
    ladder = [
        float(f"{factor}e{exponent}")
        for exponent in range(power, last_power + 1)
        for factor in (1, 2, 5)
    ]
    first = max(i for i, r in enumerate(ladder) if r <= lowest)
    last = min(i for i, r in enumerate(ladder) if r >= highest)
    yield from ladder[first : max(last, first + 1) + 1]


def _is_power(value: float) -> bool:
    return f"{value:e}".startswith("1.0")


def percentiles(count: int) -> Axis:
    """Return an axis of percentiles, as far as this many values have any.

    Its values are percentiles; each further label is ten times rarer.
    """
    ticks = {
        value: f"{value:g} %" for value in PERCENTILES if count * (100 - value) >= 100
    }
    highest = max(100 - 100 / count if count else 0, 90.0)
    return Axis(low=0.0, high=highest, scale=_rarity, ticks=ticks or {0.0: "0 %"})


def _rarity(percentile: float) -> float:
    return -log10(1 - min(percentile, 99.9999999) / 100)
