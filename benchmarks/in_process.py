"""Fan-out in one process, without sockets."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import process_time
from typing import TypeAlias

import anyio

from adapters.hosting.collector import THRESHOLDS

from .contenders import CONTENDERS, PAYLOAD_BYTES, Contender, Publish, Tally
from .results import Bar, Chart, Outcome, Section, Spread, Verdict

__all__ = ("Size", "run")

Once: TypeAlias = Callable[[], Awaitable[int]]

LOOPS = ("asyncio", "trio")
MODES = ("paced", "bursts")
OURS, OURS_TOO, DRAINED = (each.name for each in CONTENDERS[:3])


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        runs: values of each contender.
        turns: of which each run consists; one for those that are slow.
        turn_s: shortest length of a turn (s).
    """

    subscribers: int = 500
    runs: int = 5
    turns: int = 4
    turn_s: float = 0.05


@asynccontextmanager
async def pacing(
    publish: Publish, tally: Tally, count: int
) -> AsyncGenerator[Once, None]:
    """Yield what publishes one message and returns when all have got it."""

    async def once() -> int:
        tally.expect(count)
        await publish()
        await tally.wait()
        return count

    yield once


@asynccontextmanager
async def bursting(
    publish: Publish, tally: Tally, count: int, burst: int
) -> AsyncGenerator[Once, None]:
    """Yield what lets ``burst`` tasks publish one message each in the same tick.

    The tasks are there all the time: starting them is not what is measured.
    """
    gate = anyio.Event()

    async def publisher() -> None:
        mine = gate
        while True:
            await mine.wait()
            mine = gate  # the next one: it cannot be missed while we publish
            await publish()

    async def once() -> int:
        nonlocal gate
        tally.expect(count * burst)
        current, gate = gate, anyio.Event()
        current.set()
        await tally.wait()
        return count * burst

    async with anyio.create_task_group() as tasks:
        for _ in range(burst):
            tasks.start_soon(publisher)
        await anyio.wait_all_tasks_blocked()
        yield once
        tasks.cancel_scope.cancel()


async def take_turn(once: Once, seconds: float) -> tuple[int, float]:
    """Return how many deliveries, in how many seconds; at least one round.

    Nothing here waits, so the processor's time is the time that passes; and it does
    not count what other processes take.
    """
    start, delivered = process_time(), 0
    while (elapsed := process_time() - start) < seconds or not delivered:
        delivered += await once()
    return delivered, elapsed


async def compete(
    field: Sequence[Contender], mode: str, size: Size
) -> dict[str, list[float]]:
    """Return deliveries per second of every run of every contender.

    All are there at once and take short turns, so that what disturbs the machine
    disturbs all of them; those that have no turn wait and cost nothing.
    """
    drivers: dict[str, Once] = {}
    rates: dict[str, list[float]] = {each.name: [] for each in field}
    async with AsyncExitStack() as stack:
        for each in field:
            tally = Tally()
            publish = await stack.enter_async_context(
                each.open(size.subscribers, tally)
            )
            driver = (
                pacing(publish, tally, size.subscribers)
                if mode == "paced"
                else bursting(publish, tally, size.subscribers, each.burst)
            )
            drivers[each.name] = await stack.enter_async_context(driver)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        gc.freeze()
        for number in range(size.runs + 1):
            totals = {name: [0, 0.0] for name in drivers}
            for turn in range(size.turns):
                for each in field if turn % 2 else reversed(field):
                    if turn and each.is_slow:
                        continue
                    once = drivers[each.name]
                    delivered, elapsed = await take_turn(once, size.turn_s)
                    totals[each.name][0] += delivered
                    totals[each.name][1] += elapsed
            if number:  # the first one warms up
                for name, (deliveries, seconds) in totals.items():
                    rates[name].append(deliveries / seconds)
    return rates


@contextmanager
def tuned_collector() -> Generator[None, None, None]:
    """Collect as the servers do: else who pays for a collection is a lottery."""
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.collect()


def run(size: Size | None = None) -> Outcome:
    """Measure every contender on every loop that it runs on."""
    size = size or Size()
    outcome = Outcome()
    for mode in MODES:
        rows: list[tuple[str, ...]] = []
        bars: list[Bar] = []
        for loop in LOOPS:
            field = [each for each in CONTENDERS if loop in each.loops]
            with tuned_collector():
                rates = anyio.run(compete, field, mode, size, backend=loop)
            for name, values in rates.items():
                outcome.figures[f"in_process/{loop}/{mode}/{name}"] = values
                spread = Spread.of(values)
                ratio = Spread.ratios(values, rates[DRAINED])
                rows.append((loop, name, spread.show_rate(), ratio.show(suffix="×")))
                bars.append(Bar(loop, name, spread))
            judge(outcome, loop, mode, rates)
        outcome.sections.append(
            Section(
                f"In one process, {mode}",
                PROSE[mode].format(subscribers=size.subscribers, size=PAYLOAD_BYTES),
                ("loop", "who", "deliveries/s", f"against {DRAINED}"),
                rows,
            )
        )
        outcome.charts.append(
            Chart(
                f"benchmarks-in-process-{mode}",
                f"In one process, {mode}: {size.subscribers} subscribers",
                "deliveries/s",
                bars,
            )
        )
    return outcome


def judge(
    outcome: Outcome, loop: str, mode: str, rates: dict[str, list[float]]
) -> None:
    """Compare with the targets of the design."""
    ratio = Spread.ratios(rates[OURS], rates[DRAINED])
    outcome.verdicts.append(
        Verdict(
            f"In process, {loop}, {mode}: at least 1× {DRAINED}",
            ratio.show(suffix="×"),
            ratio.median >= 1,
        )
    )
    peers = {
        name: v for name, v in rates.items() if name not in (OURS, OURS_TOO, DRAINED)
    }
    best = max(peers, key=lambda name: Spread.of(peers[name]).median)
    ahead = Spread.ratios(rates[OURS], peers[best])
    outcome.verdicts.append(
        Verdict(
            f"In process, {loop}, {mode}: ahead of every other",
            f"{ahead.show(suffix='×')} the best of them, {best}",
            ahead.median > 1,
        )
    )


PROSE = {
    "paced": (
        "{subscribers} subscribers, each a task; messages of {size} bytes. The next "
        "message is published when all have the last one, so each delivery is one "
        "wake-up. Deliveries per second of processor time; the collector is tuned as "
        "over hypercorn."
    ),
    "bursts": (
        "{subscribers} subscribers, each a task; messages of {size} bytes. Fifty tasks "
        "(five for Django Channels, which would take seconds) publish one message each "
        "in the same tick; the next burst comes when all have got all of them."
    ),
}
