"""Chat over real sockets: hypercorn serves ours and the naive loop, clients count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from .footprint import collector, idle_memory
from .results import Bar, Chart, Outcome, Section, Spread, Verdict, alternate
from .rig import (
    JUDGED,
    SERVERS,
    SMALL_BYTES,
    Open,
    Result,
    Rig,
    Size,
    connected,
    is_linux,
    open_rig,
)

__all__ = ("run",)

LARGE_BYTES = 8_192
# The kernel's own choice would hold megabytes for a stalled client on loopback, and no
# run would be long enough to see what happens then.
STALL_BUFFER_BYTES = 32_768
QUIET_S = 2.0  # with no delivery for so long, it is frozen


def run(size: Size | None = None) -> Outcome:
    """Measure throughput, stalled clients, memory and the collector's part."""
    size = size or Size()
    outcome = Outcome()
    throughput(outcome, size)
    stalled_clients(outcome, size)
    if size.idle and is_linux:
        idle_memory(outcome, size)
    if "trio" in size.loops:
        collector(outcome, size)
    return outcome


def throughput(outcome: Outcome, size: Size) -> None:
    """All clients healthy, short messages: ours against the naive loop."""
    rows: dict[str, list[tuple[str, ...]]] = {"paced": [], "burst": []}
    bars: dict[str, list[Bar]] = {"paced": [], "burst": []}
    for loop in size.loops:
        with ExitStack() as stack:
            rigs = {
                name: connected(stack, partial(open_rig, name, loop), size)
                for name in SERVERS
            }
            for mode in rows:
                job = partial(
                    Rig.run,
                    mode=mode,
                    messages=size.messages(mode, loop),
                    size=SMALL_BYTES,
                )
                found = alternate(
                    {name: partial(job, rig) for name, rig in rigs.items()}, size.runs
                )
                for name, results in found.items():
                    key = f"over_hypercorn/{loop}/{mode}/{name}"
                    outcome.figures[key] = [each.per_s for each in results]
                    rows[mode].append(row(loop, name, results, found["naive"]))
                    spread = Spread.of([each.per_s for each in results])
                    bars[mode].append(Bar(loop, SERVERS[name], spread))
                judge_throughput(outcome, loop, mode, found)
                judge_hosting(outcome, loop, mode, found)
    for mode, title in (("paced", "paced"), ("burst", "bursts")):
        outcome.sections.append(
            Section(
                f"Over hypercorn, {title}",
                PROSE[mode].format(clients=size.clients),
                (
                    "loop",
                    "server",
                    "deliveries/s",
                    "against naive",
                    "CPU per delivery, µs",
                    "… against naive",
                    "p50, ms",
                    "p99, ms",
                ),
                rows[mode],
            )
        )
        outcome.charts.append(
            Chart(
                f"benchmarks-hypercorn-{title}",
                f"Over hypercorn, {title}: {size.clients} clients, one core",
                "deliveries/s",
                bars[mode],
            )
        )


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
        Spread.of(cpu).show(".1f"),
        Spread.ratios(cpu, base_cpu).show(suffix="×"),
        Spread.of([each.p50_ms for each in results]).show(".1f"),
        Spread.of([each.p99_ms for each in results]).show(".1f"),
    )


def judge_throughput(
    outcome: Outcome, loop: str, mode: str, found: dict[str, list[Result]]
) -> None:
    least = {
        ("asyncio", "paced"): 0.75,
        ("trio", "paced"): 0.75,
        ("asyncio", "burst"): 1.3,
    }.get((loop, mode))
    if least is not None:
        ours, naive = (
            [each.per_s for each in found[name]] for name in (JUDGED, "naive")
        )
        ratio = Spread.ratios(ours, naive)
        outcome.verdicts.append(
            Verdict(
                f"broker serve, {loop}, {mode}: at least {least:g}× the naive loop",
                ratio.show(suffix="×"),
                ratio.median >= least,
            )
        )


def judge_hosting(
    outcome: Outcome, loop: str, mode: str, found: dict[str, list[Result]]
) -> None:
    """What the hardening, the sockets' options, the logs and the rest cost."""
    hosted, plain = (
        [1 / each.cpu_us for each in found[name]] for name in (JUDGED, "ours")
    )
    ratio = Spread.ratios(hosted, plain)
    outcome.verdicts.append(
        Verdict(
            f"broker serve, {loop}, {mode}: at least 0.95× plain hypercorn, by "
            "processor time",
            ratio.show(suffix="×"),
            ratio.median >= 0.95,
        )
    )


def stalled_clients(outcome: Outcome, size: Size) -> None:
    """The same with longer messages, and one client in a hundred that never reads."""
    rows: list[tuple[str, ...]] = []
    few = max(size.clients // 100, 1)
    for loop in size.loops:
        with ExitStack() as stack:
            jobs: dict[str, Callable[[], Result]] = {}
            for name in (JUDGED, "naive"):
                opening = partial(open_rig, name, loop, buffer_bytes=STALL_BUFFER_BYTES)
                rig = connected(stack, opening, size)
                jobs[name] = partial(long_messages, rig, size)
                jobs[f"{name}, stalled"] = partial(one_stall, opening, size, few)
            found = alternate(jobs, size.runs)
        for name, results in found.items():
            server, _, stalls = name.partition(", ")
            key = f"over_hypercorn/{loop}/p99_ms/{name}"
            outcome.figures[key] = [each.p99_ms for each in results]
            p99 = Spread.of([each.p99_ms for each in results])
            base = [each.p99_ms for each in found[server]]
            ratio = Spread.ratios(outcome.figures[key], base)
            frozen = any(each.froze for each in results)
            rows.append(
                (
                    loop,
                    SERVERS[server],
                    str(few) if stalls else "none",
                    fate(results),
                    "–" if frozen else p99.show(".1f"),
                    "–" if frozen else ratio.show(suffix="×"),
                )
            )
            outcome.figures[f"over_hypercorn/{loop}/share/{name}"] = [
                each.delivered / each.expected for each in results
            ]
            if name == f"{JUDGED}, stalled":
                outcome.verdicts.append(
                    Verdict(
                        f"broker serve, {loop}: p99 of healthy clients with 1 % "
                        "stalled at most 1.2× of none",
                        fate(results) if frozen else ratio.show(suffix="×"),
                        not frozen and ratio.median <= 1.2,
                    )
                )
    outcome.sections.append(
        Section(
            "Over hypercorn, with stalled clients",
            STALL_PROSE.format(clients=size.clients, few=few, size=LARGE_BYTES),
            (
                "loop",
                "server",
                "stalled",
                "delivered to healthy clients",
                "p99, ms",
                "against none stalled",
            ),
            rows,
        )
    )


def long_messages(rig: Rig, size: Size) -> Result:
    return rig.run("paced", messages=size.stall, size=LARGE_BYTES, quiet_s=QUIET_S)


def one_stall(opening: Open, size: Size, few: int) -> Result:
    with opening() as rig:  # a new one: a frozen server stays frozen
        rig.connect(size.clients - few, stalled=few)
        return long_messages(rig, size)


def fate(results: Sequence[Result]) -> str:
    """Return ``all``, or in how many runs it froze, and when."""
    frozen = [each for each in results if each.froze]
    if not frozen:
        return "all"
    share = Spread.of([each.delivered / each.expected * 100 for each in frozen])
    return f"froze in {len(frozen)} of {len(results)}: {share.show('.0f', ' %')}"


PROSE = {
    "paced": (
        "{clients} clients, messages of 128 bytes. One of the clients says something "
        "and says the next thing when all have heard it: the tutorial's chat."
    ),
    "burst": (
        "{clients} clients, messages of 128 bytes. An HTTP request has the server "
        "publish many in a row."
    ),
}
STALL_PROSE = (
    "{clients} clients, {few} of which connect and never read, or none of them; "
    "messages of {size} bytes, paced by the healthy clients; the listening socket's "
    "send buffer is 32 KiB, so that a stall shows within the run. A server from which "
    "nothing comes any more for two seconds has frozen: the share is of what the "
    "healthy clients should have got."
)
