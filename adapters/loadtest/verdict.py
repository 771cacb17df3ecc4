"""What makes the figures of a test worth less, said loud and plain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .plan import Scenario
from .report import Audience, Moment, Report
from .wording import count, ms, not_slow, percent, plural, seconds

__all__ = ("warnings_for",)

# A process that is busier than this is late with what it reads, and so blames the
# server for its own delay (of one core; guess).
BUSY_CPU = 0.9
# Lateness is part of every latency. Below 1 ms it is an event loop's usual turn, above
# it may be a tenth of what is measured (guesses).
LATE_MS = 1.0
LATE_SHARE = 0.1
# An event loop wakes up to the millisecond, and not while it reads what has come for a
# thousand clients, which is the usual 2 to 4 ms (guesses).
WAKING_MS = 5.0
WAKING_SHARE = 0.25
STALL_MS = 100.0  # what stands still that long was stopped, not busy (guess)
# Deliveries above a percentile that make it more than an anecdote (guess).
ENOUGH = 10
SENT_SHARE = 0.99  # of what the plan says; less is another test (guess)
# Of deliveries that wait, above which a server does not keep up (guess).
BEHIND_S = 1.0
CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
SLOW_CLOCKS = ("acpi_pm", "hpet", "jiffies", "pit")


def warnings_for(
    report: Report,
    *,
    early: int = 0,
    unsent: int = 0,
    unconnected: int = 0,
    cores: int | None = None,
) -> list[str]:
    """Return sentences that say what is wrong and what to do, worst first.

    Args:
        report: all of it; its own warnings are not looked at.
        early: messages that came before they were intended (``TallyResult.early``).
        unsent: messages that count and could not be sent.
        unconnected: attempts to connect that failed.
        cores: how many the server and the generators may run on, taken together
            (``process.cores_in_reach``); None if the server is on another machine.
    """
    return [
        *emptiness(report, unconnected),
        *clocks(report, early),
        *generators(report, cores),
        *sending(report, unsent),
        *counting(report),
        *queueing(report),
        *samples(report),
    ]


def emptiness(report: Report, unconnected: int) -> Iterator[str]:
    if not report.is_complete:
        yield (
            f"Interrupted after {seconds(report.measured_s)} of "
            f"{seconds(report.plan.duration_s)}: these are the figures so far."
        )
    expected = sum(each.expected for each in report.audiences)
    if not expected:
        yield "Nothing was due to anybody, so these figures say nothing."
    elif not sum(each.delivered for each in report.audiences):
        yield (
            "Not one message came: see that publishers and listeners mean the same "
            "topic, and that the server passes on what clients publish."
        )
    if unconnected:
        yield (
            f"{plural(unconnected, 'attempt', 'attempts')} to connect failed: there "
            f"were fewer clients than planned, at least for a while."
        )


def clocks(report: Report, early: int) -> Iterator[str]:
    if early:
        yield (
            f"{plural(early, 'message', 'messages')} came before they were sent: the "
            f"processes do not share a clock, or another test uses the same topic. No "
            f"latency is to be trusted."
        )
    if (clock := slow_clock()) is not None:
        yield (
            f"This machine's clock is {clock}, which is slow to read and takes part of "
            f"each latency: take another machine, or see why it has no tsc."
        )


def slow_clock() -> str | None:
    """Return the name of this machine's clock if it is known to be slow."""
    try:
        name = CLOCK.read_text().strip()
    except OSError:  # not Linux
        return None
    return name if name in SLOW_CLOCKS else None


def generators(report: Report, cores: int | None) -> Iterator[str]:
    plan, made = report.plan, report.generators
    busiest = max(made.cpu, default=0.0)
    if busiest > BUSY_CPU:
        yield (
            f"The load generator was the bottleneck: a process of it took "
            f"{percent(busiest)} of a core. Latencies are partly its own, and the "
            f"server may be faster than it looks: take more processes than "
            f"{plan.processes} (and cores), or less load."
        )
    late, usual = made.lateness, typical_ms(report)
    if late.p99_ms > max(LATE_MS, LATE_SHARE * usual):
        yield (
            f"The load generator was late: 1 % of the messages were sent "
            f"{ms(late.p99_ms)} or more after their time, and every latency contains "
            f"that. Take more processes, or a machine with less to do."
        )
    woke = made.waking
    stall_ms = max(late.max_ms, woke.max_ms)
    if woke.p99_ms > max(WAKING_MS, WAKING_SHARE * usual):
        yield (
            f"The load generator was slow to read: for 1 % of the time it was busy or "
            f"stopped for {ms(woke.p99_ms)} or more, and what came meanwhile counts as "
            f"late. Take more processes, or a machine with less to do."
        )
    elif stall_ms > max(STALL_MS, LATE_SHARE * usual):
        yield (
            f"The load generator stood still once, for {ms(stall_ms)}: the highest "
            f"latencies are its own."
        )
    if cores is not None and cores < plan.processes + 1:
        yield (
            f"The server and {plural(plan.processes, 'generator', 'generators')} share "
            f"{plural(cores, 'core', 'cores')}, and take time from each other: compare "
            f"these figures only with others made like that."
        )


def typical_ms(report: Report) -> float:
    """Return the p99 of who reads as fast as it can (ms); 0 if there is nobody."""
    return max((each.latency.p99_ms for each in not_slow(report)), default=0.0)


def sending(report: Report, unsent: int) -> Iterator[str]:
    plan = report.plan
    is_whole = report.is_complete
    took_s = plan.duration_s if is_whole else min(report.measured_s, plan.duration_s)
    planned = round(plan.rate_per_s * took_s)
    missing = max(unsent, planned - report.sent)
    if unsent or report.sent < SENT_SHARE * planned - 1:
        yield (
            f"{plural(missing, 'message', 'messages')} of {count(planned)} could not "
            f"be sent: the server took them too slowly, or ended who publishes. The "
            f"load was smaller than planned, and latencies do not show it."
        )


def counting(report: Report) -> Iterator[str]:
    """Two counts that are made independently of each other must agree."""
    for each in report.audiences:
        if each.latency.count != each.delivered:
            yield (
                f"{count(each.latency.count)} deliveries were timed and "
                f"{count(each.delivered)} counted ({each.name}): either another test "
                f"uses the same topic, or this tester is wrong."
            )


def queueing(report: Report) -> Iterator[str]:
    """Say so where latencies depend on how long one has waited to stop."""
    counted = [each for each in report.moments if 0 < each.at_s <= report.measured_s]
    per_s = sum(map(due, not_slow(report))) / max(report.measured_s, 1e-9)
    if not counted or not per_s:
        return
    # What waits for who does not read, or is away and will come back, is no delay.
    excused = sum(map(due, report.audiences)) - sum(map(due, not_slow(report)))
    if report.plan.scenario in (Scenario.STORM, Scenario.RESUME):
        excused += round(report.plan.drop_s * per_s)
    waits = counted[-1].outstanding - lowest(counted) - excused
    if waits > BEHIND_S * per_s:
        yield (
            f"The server did not keep up: {count(waits)} deliveries more were waiting "
            f"at the end than before. A longer test would show longer latencies; they "
            f"say how far it fell behind, not how fast it is."
        )


def due(audience: Audience) -> int:
    return audience.expected


def lowest(moments: list[Moment]) -> int:
    return min(each.outstanding for each in moments)


def samples(report: Report) -> Iterator[str]:
    deliveries = max((each.latency.count for each in not_slow(report)), default=0)
    for name, share in (("p99", 100), ("p99.9", 1000)):
        # Whatever delays one message delays it for all who listen: so count both.
        if deliveries and (deliveries < ENOUGH * share or report.sent < share):
            yield (
                f"Too few for {name}: {plural(report.sent, 'message', 'messages')} and "
                f"{plural(deliveries, 'delivery', 'deliveries')}, where {count(share)} "
                f"and {count(ENOUGH * share)} would do: test longer, or publish faster."
            )
            return
