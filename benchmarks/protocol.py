"""The Centrifuge client protocol over real sockets, against the naive loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from .footprint import measure_idle
from .results import Bar, Chart, Outcome, Section, Spread, Verdict, alternate
from .rig import SMALL_BYTES, Result, Rig, Size, connected, is_linux, open_rig

__all__ = ("run",)

SERVERS = {
    "protocol served": "asgi-broker, broker serve",
    "protocol": "asgi-broker, plain hypercorn",
    "naive": "naive loop, plain text",
}
JUDGED = "protocol served"
LEAST = {"paced": 0.75, "burst": 20.0}  # times the naive loop
MOST_KIB = 40
BUSY = 0.9  # clients with more to do than this share of the time were in the way


def run(size: Size | None = None) -> Outcome:
    """Measure throughput and memory."""
    size = size or Size()
    outcome = Outcome()
    throughput(outcome, size)
    if size.idle and is_linux:
        memory(outcome, size)
    return outcome


def throughput(outcome: Outcome, size: Size) -> None:
    """All clients subscribed to one channel, short messages."""
    rows: dict[str, list[tuple[str, ...]]] = {"paced": [], "burst": []}
    bars: dict[str, list[Bar]] = {"paced": [], "burst": []}
    for loop in size.loops:
        with ExitStack() as stack:
            rigs = {
                name: connected(stack, partial(open_rig, name, loop), size)
                for name in SERVERS
            }
            for mode in rows:
                jobs = {
                    name: job(rig, mode, name, loop, size) for name, rig in rigs.items()
                }
                found = alternate(jobs, size.runs)
                for name, results in found.items():
                    rates = [each.per_s for each in results]
                    outcome.figures[f"protocol/{loop}/{mode}/{name}"] = rates
                    rows[mode].append(row(loop, name, results, found["naive"]))
                    bars[mode].append(Bar(loop, SERVERS[name], Spread.of(rates)))
                judge(outcome, loop, mode, found)
    for mode, title in (("paced", "paced"), ("burst", "bursts")):
        outcome.sections.append(
            Section(
                f"Centrifuge protocol, {title}",
                PROSE[mode].format(clients=size.clients, bursts=size.bursts),
                (
                    "loop",
                    "server",
                    "deliveries/s",
                    "against naive",
                    "CPU per delivery, µs",
                    "… against naive",
                    "p50, ms",
                    "p99, ms",
                    "clients busy, %",
                ),
                rows[mode],
            )
        )
        outcome.charts.append(
            Chart(
                f"benchmarks-protocol-{title}",
                f"Centrifuge protocol, {title}: {size.clients} clients, one core",
                "deliveries/s",
                bars[mode],
            )
        )


def job(rig: Rig, mode: str, name: str, loop: str, size: Size) -> Callable[[], Result]:
    """Return one run of a server."""
    details: dict[str, Any] = {"messages": size.messages(mode, loop)}
    if mode == "burst" and name != "naive":
        details["times"] = size.bursts
    return partial(rig.run, mode, size=SMALL_BYTES, **details)


def row(
    loop: str, name: str, results: Sequence[Result], naive: Sequence[Result]
) -> tuple[str, ...]:
    rates, base = ([each.per_s for each in runs] for runs in (results, naive))
    cpu, base_cpu = ([each.cpu_us for each in runs] for runs in (results, naive))
    return (
        loop,
        SERVERS[name],
        Spread.of(rates).show_rate(),
        Spread.ratios(rates, base).show(suffix="×"),
        Spread.of(cpu).show(),
        Spread.ratios(cpu, base_cpu).show(".3f", suffix="×"),
        Spread.of([each.p50_ms for each in results]).show(".1f"),
        Spread.of([each.p99_ms for each in results]).show(".1f"),
        Spread.of([each.clients_busy * 100 for each in results]).show(".0f"),
    )


def judge(
    outcome: Outcome, loop: str, mode: str, found: dict[str, list[Result]]
) -> None:
    ours, naive = ([each.per_s for each in found[name]] for name in (JUDGED, "naive"))
    ratio = Spread.ratios(ours, naive)
    least = LEAST[mode]
    measured = ratio.show(suffix="×")
    if Spread.of([each.clients_busy for each in found[JUDGED]]).median > BUSY:
        measured += "; the clients were the limit"
    froze = sum(each.froze for runs in found.values() for each in runs)
    if froze:
        measured += f"; {froze} runs froze"
    outcome.verdicts.append(
        Verdict(
            f"Centrifuge protocol, {loop}, {mode}: at least {least:g}× the naive loop",
            measured,
            ratio.median >= least and not froze,
        )
    )


def memory(outcome: Outcome, size: Size) -> None:
    """What one more idle subscriber costs the server, in all and beside the loop's."""
    rows: list[tuple[str, ...]] = []
    for loop in size.loops:
        found = {name: measure_idle(name, loop, size) for name in SERVERS}
        base = found["naive"]
        for name, each in found.items():
            outcome.figures[f"protocol/{loop}/idle_kib/{name}"] = [each.each_kib]
            rows.append(
                (
                    loop,
                    SERVERS[name],
                    f"{each.each_kib:.1f}",
                    f"{each.collected_kib:.1f}",
                    f"{each.each_kib - base.each_kib:.1f}",
                )
            )
        ours = found[JUDGED].each_kib
        outcome.verdicts.append(
            Verdict(
                f"Centrifuge protocol, {loop}: at most {MOST_KIB} KiB per idle "
                "connection, hypercorn's part included",
                f"{ours:.1f} KiB, {ours - base.each_kib:.1f} more than the naive loop",
                ours <= MOST_KIB,
            )
        )
    outcome.sections.append(
        Section(
            "Centrifuge protocol, memory of an idle connection",
            f"What the server's resident memory grows by with {size.idle} clients that "
            "have connected and subscribed to one channel, divided by their number "
            "(KiB); one run each. It is all that a connection takes: hypercorn's and "
            "Starlette's part, which the naive loop has too, and ours. The second "
            "figure is taken after a garbage collection.",
            ("loop", "server", "KiB each", "KiB each, collected", "above the loop"),
            rows,
        )
    )


PROSE = {
    "paced": (
        "{clients} clients, messages of 128 bytes. One of the clients publishes and "
        "publishes again when all have it. The loop sends the 128 bytes alone; the "
        "protocol adds channel, publisher and offset, and answers the publisher."
    ),
    "burst": (
        "{clients} clients, messages of 128 bytes. An HTTP request has the server "
        "publish many in a row, which go to each client in few frames; {bursts} such "
        "bursts are one run of ours. The clients look at every line: all got the same, "
        "each once and in order, or the run fails."
    ),
}
