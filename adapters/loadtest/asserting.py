"""What a test is to hold, in a line: ``p99<50ms``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from .latencies import Latencies
from .report import Audience, Latency, Report

__all__ = ("Assertion", "Outcome", "parse")

SLOW = "slow"
CLASSES = ("healthy", SLOW, "resuming", "churning")
# Times that are no class's: what a report calls them.
TIMES: dict[str, Callable[[Report], Latency]] = {
    "connecting": lambda report: report.connecting,
    "returning": lambda report: report.returning,
    "lateness": lambda report: report.generators.lateness,
}
COUNTS: dict[str, Callable[[Audience], int]] = {
    "delivered": lambda audience: audience.delivered,
    "loss": lambda audience: audience.missed_told + audience.missed_untold,
    "told": lambda audience: audience.missed_told,
    "untold": lambda audience: audience.missed_untold,
    "repeated": lambda audience: audience.repeated,
    "reordered": lambda audience: audience.reordered,
    "strayed": lambda audience: audience.strayed,
    "ended": lambda audience: audience.ended,
}
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
LINE = re.compile(
    r"\s*(?:(?P<group>[a-z]+)\.)?(?P<name>p[0-9]+(?:\.[0-9]+)?|[a-z_]+)"
    r"\s*(?P<relation><=|>=|==|<|>)"
    r"\s*(?P<number>[0-9][0-9_,]*(?:\.[0-9]+)?)\s*(?P<unit>[^0-9\s]*)\s*"
)


# {unit: how many of what is compared it is}
MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1000.0}
SHARE = {"": 1.0, "%": 1.0}  # of counts: per cent are counted as such, to be exact
NUMBER = {"": 1.0}
PER_S = {"": 1.0, "/s": 1.0}
CORES = {"": 1.0, "%": 0.01}
BYTES = {
    "B": 1.0,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
}


class Single(NamedTuple):
    """A figure that a report has once; None if it was not measured."""

    units: dict[str, float]
    read: Callable[[Report], float | None]


SINGLES = {
    "rate": Single(PER_S, lambda report: report.deliveries_per_s),
    "sent": Single(NUMBER, lambda report: report.sent),
    "resumed": Single(NUMBER, lambda report: report.resumed),
    "not_resumed": Single(NUMBER, lambda report: report.not_resumed),
    "warnings": Single(NUMBER, lambda report: len(report.warnings)),
    "cpu": Single(CORES, lambda report: report.server.cpu if report.server else None),
    "cost": Single(
        MS,
        lambda report: (
            report.server.cpu_us_per_delivery / 1000 if report.server else None
        ),
    ),
    "rss": Single(
        BYTES, lambda report: report.server.peak_rss_bytes if report.server else None
    ),
    "generator": Single(CORES, lambda report: max(report.generators.cpu, default=None)),
}
KNOWN = (
    f"p50, p90, p99, p99.9, mean, max, {', '.join([*COUNTS, *SINGLES])}; before a time "
    f"or a count, one of {', '.join(f'{each}.' for each in CLASSES)}; before a time, "
    f"one of {', '.join(f'{each}.' for each in TIMES)}"
)


class Outcome(NamedTuple):
    """Whether it held, and the line that says so: ``p99 < 50 ms: 31.2 ms``."""

    holds: bool
    text: str


class Assertion(msgspec.Struct, frozen=True, kw_only=True):
    """One claim about a report; made by ``parse``.

    Attributes:
        group: of clients or times; "" for all clients but the slow.
        name: of the figure.
        relation: ``<``, ``<=``, ``>``, ``>=`` or ``==``.
        number: it is compared with that, in ``unit``.
        unit: "" for none.
    """

    group: str
    name: str
    relation: str
    number: float
    unit: str

    @property
    def text(self) -> str:
        """How it reads: ``p99 < 50 ms``."""
        name = f"{self.group}.{self.name}" if self.group else self.name
        return f"{name} {self.relation} {shown(self.number, self.unit)}"

    def check(self, report: Report) -> Outcome:
        """Return whether it holds; of what was not measured nothing does."""
        value = self._value(report)
        if value is None:
            why = (
                "not measured"
                if self.name in SINGLES
                else "there is nothing to measure"
            )
            return Outcome(False, f"{self.text}: {why}")
        value /= units_of(self.name)[self.unit]
        holds = RELATIONS[self.relation](value, self.number)
        return Outcome(holds, f"{self.text}: {shown(value, self.unit)}")

    def _value(self, report: Report) -> float | None:
        if single := SINGLES.get(self.name):
            return single.read(report)
        audiences = [each for each in report.audiences if self._means(each)]
        if count := COUNTS.get(self.name):
            expected = sum(each.expected for each in audiences)
            if not expected:
                return None
            counted = sum(map(count, audiences))
            return 100 * counted / expected if self.unit == "%" else counted
        latencies = Latencies()
        if self.group in TIMES:
            add(latencies, TIMES[self.group](report))
        for each in audiences:
            add(latencies, each.latency)
        return read_time(latencies, self.name) if latencies.count else None

    def _means(self, audience: Audience) -> bool:
        return audience.name == self.group if self.group else audience.name != SLOW


def parse(text: str) -> Assertion:
    """Return what a line claims.

    Names: a percentile such as ``p99.9``, ``mean`` and ``max`` of latencies; the counts
    ``delivered``, ``loss``, ``told``, ``untold``, ``repeated``, ``reordered``,
    ``strayed`` and ``ended``, or with ``%`` their share of what was due; ``rate``
    (deliveries/s), ``sent``, ``resumed``, ``not_resumed``, ``warnings``; the server's
    ``cpu``, ``cost`` (for each delivery) and ``rss`` (the most); ``generator`` (the
    busiest). ``slow.p99`` is that of a class; ``connecting.``, ``returning.`` and
    ``lateness.`` are other times.

    Raises:
        ValueError: it is no such line; says in one what it could be.
    """
    match = LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no claim like p99<50ms. Known are {KNOWN}")
    group, name, relation, number, unit = match.groups()
    group = group or ""
    if not is_known(group, name):
        raise ValueError(f"{text!r} names nothing known. Known are {KNOWN}")
    if unit not in (units := units_of(name)):
        named = ", ".join(each or "none" for each in units)
        raise ValueError(f"{text!r} needs another unit. {name} has: {named}")
    return Assertion(
        group=group,
        name=name,
        relation=relation,
        number=float(re.sub("[_,]", "", number)),
        unit=unit,
    )


def is_known(group: str, name: str) -> bool:
    if name in SINGLES:
        return not group
    if name in COUNTS:
        return group in ("", *CLASSES)
    is_percentile = name[0] == "p" and name[1:2].isdigit() and float(name[1:]) <= 100
    return (is_percentile or name in ("mean", "max")) and group in (
        "",
        *CLASSES,
        *TIMES,
    )


def units_of(name: str) -> dict[str, float]:
    if name in SINGLES:
        return SINGLES[name].units
    return SHARE if name in COUNTS else MS


def add(latencies: Latencies, latency: Latency) -> None:
    if latency.count:
        latencies.add(latency.histogram)


def read_time(latencies: Latencies, name: str) -> float:
    if name == "mean":
        return latencies.summary().mean_ms
    return latencies.percentiles_ms(100.0 if name == "max" else float(name[1:]))[0]


def shown(number: float, unit: str) -> str:
    """Return a figure with its unit: whole where it is or is large."""
    is_whole = number == int(number) or number >= 1000
    text = f"{number:,.0f}" if is_whole else f"{number:.4g}"
    return f"{text} {unit}" if unit not in ("", "/s") else text + unit
