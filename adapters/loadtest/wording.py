"""Figures and verdicts in words, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from .report import Audience, Latency, Report, ServerUse

__all__ = (
    "HEALTHY",
    "SLOW",
    "State",
    "Verdict",
    "address",
    "bytes_per_connection",
    "cores",
    "count",
    "healthy_first",
    "judge",
    "main_latency",
    "ms",
    "name",
    "not_slow",
    "percent",
    "plural",
    "printable",
    "seconds",
    "short",
    "size",
)

HEALTHY = "healthy"
SLOW = "slow"


class State(StrEnum):
    """What a report is worth, and what it says; the worst that applies."""

    CLEAN = "clean"
    DOUBTFUL = "read with care"  # something makes the figures worth less
    FAULTY = "faults found"  # lost without a word, or what should not have come
    EMPTY = "nothing was due"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A report in a few sentences.

    Attributes:
        state: in a word.
        findings: what came, how fast, and what did not; the most important first.
        costs: what server and generator took for it.
    """

    state: State
    findings: tuple[str, ...]
    costs: tuple[str, ...]


def judge(report: Report) -> Verdict:
    """Say what a report found.

    What slow clients miss is told and not judged: to drop it or to end them is a policy
    of the server. What should not have come at all is a fault for them too.
    """
    return Verdict(
        state=_state(report),
        findings=tuple(_findings(report)),
        costs=tuple(_costs(report)),
    )


def _state(report: Report) -> State:
    judged = not_slow(report)
    if any(a.missed_untold for a in judged) or any(
        a.repeated or a.reordered or a.strayed for a in report.audiences
    ):
        return State.FAULTY
    if report.warnings or not report.is_complete:
        return State.DOUBTFUL
    if not sum(a.expected for a in report.audiences):
        return State.EMPTY
    return State.CLEAN


def not_slow(report: Report) -> list[Audience]:
    """Return the classes from whom nothing may be kept back."""
    return [a for a in report.audiences if a.name != SLOW]


def _findings(report: Report) -> Iterator[str]:
    judged = not_slow(report)
    due = sum(a.expected for a in judged)
    came = sum(a.delivered for a in judged)
    yield f"{count(came)} of {count(due)} deliveries came: {_faults(report)}."
    latency = main_latency(report)
    if latency.count:
        yield (
            f"Half of them within {ms(latency.p50_ms)}, 99 % within "
            f"{ms(latency.p99_ms)}, the slowest after {ms(latency.max_ms)}."
        )
    yield from _exceptions(report)


def _costs(report: Report) -> Iterator[str]:
    rate = f"{count(report.deliveries_per_s)} deliveries/s"
    if floor := report.machine.floor_per_s:
        share = percent(report.deliveries_per_s / floor)
        yield f"{rate}: {share} of what one core of this machine can send at all."
    else:
        yield f"{rate}."
    if server := report.server:
        yield (
            f"The server took {cores(server.cpu)} and at most "
            f"{size(server.peak_rss_bytes)}{_each(report, server)}."
        )
    if report.generators.cpu:
        late = report.generators.lateness
        yield (
            f"The load generator took {cores(max(report.generators.cpu))}"
            + (f" and was at most {ms(late.max_ms)} late." if late.count else ".")
        )


def _faults(report: Report) -> str:
    judged = not_slow(report)
    told = sum(a.missed_told for a in judged)
    untold = sum(a.missed_untold for a in judged)
    found = {
        "lost without a word" if told or untold else "lost": untold,
        "repeated": sum(a.repeated for a in report.audiences),
        "out of order": sum(a.reordered for a in report.audiences),
        "meant for others": sum(a.strayed for a in report.audiences),
    }
    words = [f"{count(times)} {fault}" for fault, times in found.items() if times]
    if told:
        words.insert(0, f"{count(told)} lost, and the server said so")
    clean = [fault for fault, times in found.items() if not times]
    if clean:
        words.append("none " + _either(clean))
    return ", ".join(words)


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _each(report: Report, server: ServerUse) -> str:
    """Return what a delivery cost, beside a bare ``send`` of the same machine."""
    cost_us = server.cpu_us_per_delivery
    if not cost_us:
        return ""
    words = f"; each delivery cost it {ms(cost_us / 1000)}"
    if floor := report.machine.floor_per_s:
        words += f", {count(cost_us * floor / 1e6)} times a bare send"
    return words


def _exceptions(report: Report) -> Iterator[str]:
    for audience in report.audiences:
        if audience.name == SLOW:
            missed = audience.missed_told + audience.missed_untold
            yield (
                f"Slow clients got {count(audience.delivered)} of "
                f"{count(audience.expected)} and missed {count(missed)}; the server "
                f"ended {count(audience.ended)} of {count(audience.clients)}."
            )
        elif audience.ended:
            yield (
                f"The server ended {count(audience.ended)} of "
                f"{count(audience.clients)} {audience.name} connections."
            )
    yield from _returns(report)


def _returns(report: Report) -> Iterator[str]:
    """Yield how who dropped came back."""
    latency = report.returning
    words = f", 99 % within {ms(latency.p99_ms)} of the drop" if latency.count else ""
    if returned := report.resumed + report.not_resumed:
        yield (
            f"{count(report.resumed)} of {count(returned)} who came back got all that "
            f"they had missed{words}."
        )
    elif latency.count:
        yield f"{count(latency.count)} came back and began anew{words}."


def healthy_first(audiences: Sequence[Audience]) -> list[Audience]:
    """Return classes in the order of interest: who does nothing special comes first."""
    return sorted(audiences, key=lambda each: each.name != HEALTHY)


def main_latency(report: Report) -> Latency:
    """Return that of the healthy, or of the first class where there are none."""
    for audience in report.audiences:
        if audience.name == HEALTHY:
            return audience.latency
    return report.audiences[0].latency if report.audiences else Latency()


def bytes_per_connection(report: Report) -> float | None:
    """Return what the server's memory grew by for each client (bytes)."""
    if report.server is None:
        return None
    grown = report.server.connected_rss_bytes - report.server.idle_rss_bytes
    return grown / report.plan.clients


def name(report: Report) -> str:
    """Return what to call a test: its label, or else where its server is."""
    return printable(report.plan.label or address(report.plan.url))


def address(url: str) -> str:
    """Return a URL without its user, password and query, where tokens travel."""
    parts = urlsplit(url)
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def count(number: float) -> str:
    """Return a number of things: ``10,000``; with a digit more where it is small."""
    if number == int(number) or number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def plural(number: float, one: str, many: str) -> str:
    """Return so many of something: ``1 process``, ``2 processes``."""
    return f"{count(number)} {one if number == 1 else many}"


def short(number: float) -> str:
    """Return a number of things for where there is little room: ``10 k``, ``1.5 M``."""
    for factor, suffix in ((1e6, " M"), (1e3, " k")):
        if abs(number) >= factor * 0.9995:  # which three digits round up
            return f"{number / factor:.3g}{suffix}"
    return f"{number:.3g}"


def ms(value: float) -> str:
    """Return a time given in ms: ``33 µs``, ``0.84 ms``, ``12 ms``, ``1.35 s``."""
    if 0 < value < 0.1:
        return f"{value * 1000:.3g} µs"
    if value >= 999.5:
        return f"{value / 1000:.3g} s" if value < 999_500 else f"{value / 1000:,.0f} s"
    return f"{value:.3g} ms"


def seconds(value: float) -> str:
    """Return a duration given in s: ``12 s``, ``5 min``, ``1 min 30 s``."""
    if abs(value) < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min" + (f" {rest} s" if rest else "")


def size(value: float) -> str:
    """Return a size given in bytes: ``512 B``, ``61.2 MiB``."""
    sign, value = ("−", -value) if value < 0 else ("", value)
    if value < 1024:
        return f"{sign}{value:.0f} B"
    unit = "KiB"
    value /= 1024
    for larger in ("MiB", "GiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{sign}{value:.3g} {unit}"


def percent(share: float) -> str:
    """Return a share as ``99.98 %``. Only what is all or nothing is 100 % or 0 %."""
    value = share * 100
    if 99.99 < value < 100:
        return "over 99.99 %"
    if 0 < value < 0.01:
        return "under 0.01 %"
    if 99 <= value < 100:
        return f"{int(value * 100) / 100:.2f} %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def cores(cpu: float) -> str:
    """Return processor use: ``35 % of a core``, ``1.5 cores``."""
    return f"{cpu:.2g} cores" if cpu > 1.005 else f"{percent(cpu)} of a core"


def printable(text: str) -> str:
    """Return a text without what could move a terminal's cursor or break a line."""
    return "".join(c if c.isprintable() else "�" for c in text)
