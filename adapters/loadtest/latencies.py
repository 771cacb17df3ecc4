"""Times that were taken, as a distribution: exact to three digits, and mergeable."""

from __future__ import annotations

from collections.abc import Mapping

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from .report import Latency

__all__ = ("LONGEST_US", "Latencies")

LONGEST_US = 3_600_000_000  # an hour
DIGITS = 3
# HdrHistogram keeps three digits by 2,048 equal steps, and from there on by 1,024 for
# each doubling.
EXACT_US = 2048
EXACT_BITS = 11
US_PER_MS = 1000.0


class Latencies:
    """How often each time was seen, from 1 µs to an hour, to 0.1 %.

    HdrHistogram's buckets, kept as a dictionary: to record into its own takes 3 µs,
    into this 0.3 (measured), and that once for each delivery. It holds at most 25,000
    buckets, however much is recorded.

    Attributes:
        early: how many of them were below zero, which no honest clock gives. They count
            as 0.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}  # {lowest µs of a bucket: times}
        self.early = 0

    @property
    def count(self) -> int:
        """How many times were recorded."""
        return sum(self._counts.values())

    def record(self, ns: int, times: int = 1) -> None:
        """Count a time (ns) so many times; what is over an hour counts as an hour."""
        us = ns // 1000
        if us >= EXACT_US:
            if us > LONGEST_US:
                us = LONGEST_US
            shift = us.bit_length() - EXACT_BITS
            us = us >> shift << shift
        elif us < 0:
            self.early += times
            us = 0
        counts = self._counts
        try:
            counts[us] += times
        except KeyError:
            counts[us] = times

    def add(self, encoded: str) -> None:
        """Count all times of another, as its ``encode`` returned them.

        Raises:
            ValueError: it is no histogram; nothing was added.
        """
        try:
            other = HdrHistogram.decode(encoded)
        except Exception as error:  # it raises what its parts happen to
            raise ValueError("not a HdrHistogram in base64") from error
        self.add_counts(
            {
                other.get_value_from_index(index): times
                for index, times in enumerate(other.counts[:])  # copied at once
                if times
            }
        )

    def add_counts(self, counts: Mapping[int, int]) -> None:
        """Count what another had (``take``): {lowest µs of a bucket: times}."""
        for us, times in counts.items():
            self._counts[us] = self._counts.get(us, 0) + times

    def take(self) -> dict[int, int]:
        """Return {lowest µs of a bucket: times}, and forget them; ``early`` stays."""
        taken, self._counts = self._counts, {}
        return taken

    def encode(self) -> str:
        """Return all of them as HdrHistogram's base64 (µs, three digits)."""
        return str(self._histogram().encode().decode())

    def percentiles_ms(self, *percentiles: float) -> tuple[float, ...]:
        """Return the time (ms) below which so many per cent (0 to 100) lie, for each.

        The highest of its bucket, as HdrHistogram does, so at most 0.1 % too much; 0 if
        there are no times.
        """
        return self._percentiles_ms(self._histogram(), percentiles)

    def summary(self) -> Latency:
        """Return what a report says of them."""
        if not self._counts:
            return Latency()
        histogram = self._histogram()
        p50, p90, p99, p999, most = self._percentiles_ms(
            histogram, (50.0, 90.0, 99.0, 99.9, 100.0)
        )
        # Of each bucket its middle; the histogram's own mean takes 60 ms.
        total_us = sum(
            (us + (width(us) - 1) / 2) * times for us, times in self._counts.items()
        )
        return Latency(
            count=self.count,
            mean_ms=total_us / self.count / US_PER_MS,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            p999_ms=p999,
            max_ms=most,
            histogram=str(histogram.encode().decode()),
        )

    def _histogram(self) -> HdrHistogram:
        histogram = HdrHistogram(1, LONGEST_US, DIGITS)
        for us, times in self._counts.items():
            histogram.record_value(us, times)
        return histogram

    @staticmethod
    def _percentiles_ms(
        histogram: HdrHistogram, percentiles: tuple[float, ...]
    ) -> tuple[float, ...]:
        if not histogram.total_count:
            return (0.0,) * len(percentiles)
        values = histogram.get_percentile_to_value_dict(percentiles)
        return tuple(values[each] / US_PER_MS for each in percentiles)


def width(us: int) -> int:
    """Return how many microseconds a bucket that begins there holds."""
    return 1 << max(us.bit_length() - EXACT_BITS, 0)
