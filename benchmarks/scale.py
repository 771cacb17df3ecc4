"""What grows with what: subscribers, topics, patterns, and the memory of each."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import anyio

from broker import Broker, TopicRules

from .contenders import PAYLOAD_BYTES, Tally, ours_receive_all
from .in_process import Once, pacing, take_turn, tuned_collector
from .results import Outcome, Section, Spread, Verdict, alternate
from .rig import SMALL_BYTES, Result, open_rig

__all__ = ("Size", "run")

Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[Once]]
Hold: TypeAlias = Callable[[Broker, AsyncExitStack, range], Awaitable[None]]

LOOPS = ("asyncio", "trio")
SERVERS = {
    "protocol served": "Centrifuge protocol",
    "ours served": "your own messages",
}
FLAT = 1.2  # times the first figure: what the issue calls flat
PAYLOAD = "x" * PAYLOAD_BYTES
TOPICS_OF_ONE = 100  # a thousand subscriptions make 100,000 topics
HISTORY = 100  # messages, of the topics whose memory is measured


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        subscribers: of one topic.
        topics: that are subscribed to, while one of them is published to.
        patterns: likewise.
        counted: things whose memory is measured together.
        runs: values of each.
        turn_s: shortest length of a turn in process (s).
        deliveries: of one run over hypercorn, about.
        rigs: whether to measure over hypercorn, and on which loops.
    """

    subscribers: Sequence[int] = (100, 1_000, 10_000)
    topics: Sequence[int] = (1, 1_000, 100_000)
    patterns: Sequence[int] = (0, 100, 10_000)
    counted: int = 10_000
    runs: int = 5
    turn_s: float = 0.2
    deliveries: int = 60_000
    rigs: Sequence[str] = LOOPS


def run(size: Size | None = None) -> Outcome:
    """Measure all of it."""
    size = size or Size()
    outcome = Outcome()
    with tuned_collector():
        grow(
            outcome,
            size,
            "subscribers",
            [partial(publishing_to, many) for many in size.subscribers],
            size.subscribers,
        )
        grow(
            outcome,
            size,
            "topics",
            [partial(publishing_among, many, 0) for many in size.topics],
            size.topics,
        )
        grow(
            outcome,
            size,
            "patterns",
            [partial(publishing_among, 1, many) for many in size.patterns],
            size.patterns,
        )
    memory(outcome, size)
    for loop in size.rigs:
        for server in SERVERS:
            over_hypercorn(outcome, size, loop, server)
    return outcome


def grow(
    outcome: Outcome,
    size: Size,
    what: str,
    openings: Sequence[Opening],
    counts: Sequence[int],
) -> None:
    """Measure one cost with more and more of something, in process."""
    rows: list[tuple[str, ...]] = []
    for loop in LOOPS:
        costs = anyio.run(race, openings, size, backend=loop)
        rows += note(outcome, what, loop, counts, costs)
    outcome.sections.append(
        Section(
            TITLES[what],
            PROSE[what],
            ("loop", what, "µs", f"against {counts[0]:,}"),
            rows,
        )
    )


async def race(openings: Sequence[Opening], size: Size) -> list[list[float]]:
    """Return the cost (µs) of each, run by run; all are there, and take turns."""
    costs: list[list[float]] = [[] for _ in openings]
    async with AsyncExitStack() as stack:
        drivers = [await stack.enter_async_context(each()) for each in openings]
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        gc.freeze()
        for number in range(size.runs + 1):
            for driver, mine in zip(drivers, costs, strict=True):
                done, elapsed = await take_turn(driver, size.turn_s)
                # Else thousands would go to sleep again in the next one's turn.
                await anyio.wait_all_tasks_blocked()
                if number:  # the first one warms up
                    mine.append(elapsed / done * 1e6)
    return costs


@asynccontextmanager
async def publishing_to(subscribers: int) -> AsyncGenerator[Once, None]:
    """Yield what publishes a message and waits until all have it."""
    tally = Tally()
    async with (
        ours_receive_all(subscribers, tally) as publish,
        pacing(publish, tally, subscribers) as once,
    ):
        yield once


@asynccontextmanager
async def publishing_among(topics: int, patterns: int) -> AsyncGenerator[Once, None]:
    """Yield what publishes to one topic, which one has subscribed to, of many."""
    names = [f"topic.{number}" for number in range(topics)]
    names += [f"pattern.{number}.*" for number in range(patterns)]
    async with Broker() as broker, AsyncExitStack() as stack:
        for first in range(1, len(names), TOPICS_OF_ONE):
            others = names[first : first + TOPICS_OF_ONE]
            await stack.enter_async_context(broker.subscribe(*others))
        messages = await stack.enter_async_context(broker.subscribe(names[0]))

        async def once() -> int:
            await broker.publish(names[0], PAYLOAD)
            return len(await messages.receive_all())

        yield once


def over_hypercorn(outcome: Outcome, size: Size, loop: str, server: str) -> None:
    """Measure what a delivery costs with more and more clients, one publisher."""
    jobs: dict[str, Callable[[], Result]] = {}
    with ExitStack() as stack:
        for clients in size.subscribers:
            rig = stack.enter_context(open_rig(server, loop))
            rig.connect(clients)
            jobs[str(clients)] = partial(
                rig.run,
                "paced",
                messages=max(size.deliveries // clients, 2),
                size=SMALL_BYTES,
            )
        found = alternate(jobs, size.runs)
    costs = [[each.cpu_us for each in results] for results in found.values()]
    rows = note(outcome, f"clients, {SERVERS[server]}", loop, size.subscribers, costs)
    outcome.sections.append(
        Section(
            f"Over hypercorn, {SERVERS[server]}, {loop}",
            "Processor time of `broker serve` for each delivery; a run publishes until "
            f"about {size.deliveries:,} are made. All servers are there, in turns.",
            ("loop", "clients", "µs", f"against {size.subscribers[0]:,}"),
            rows,
        )
    )


def note(
    outcome: Outcome,
    what: str,
    loop: str,
    counts: Sequence[int],
    costs: Sequence[Sequence[float]],
) -> list[tuple[str, ...]]:
    """Take down figures and verdicts, and return the rows of the table."""
    rows: list[tuple[str, ...]] = []
    for many, runs in zip(counts, costs, strict=True):
        outcome.figures[f"scale/{what}/{loop}/{many}"] = list(runs)
        ratio = Spread.ratios(runs, costs[0]).show(suffix="×")
        rows.append((loop, f"{many:,}", Spread.of(runs).show(), ratio))
    most = max(Spread.ratios(runs, costs[0]).median for runs in costs)
    outcome.verdicts.append(
        Verdict(
            f"{loop}: the cost is flat from {counts[0]:,} to {counts[-1]:,} {what}: "
            f"at most {FLAT:g}×",
            f"{most:.2f}×",
            most <= FLAT,
        )
    )
    return rows


def memory(outcome: Outcome, size: Size) -> None:
    """What Python's objects take, in process, by tracemalloc."""
    rows: list[tuple[str, ...]] = []
    for what, opening in HELD.items():
        each_bytes = anyio.run(measure_held, opening, size.counted)
        outcome.figures[f"scale/memory/{what}"] = [each_bytes]
        rows.append((what, f"{each_bytes:,.0f}"))
    outcome.sections.append(
        Section(
            "Memory of topics and subscriptions",
            f"Python's objects, by tracemalloc, on asyncio; {size.counted:,} of each "
            "in one process, divided by their number. What connections take is in "
            "benchmarks-hypercorn.md and benchmarks-protocol.md.",
            ("one more …", "bytes"),
            rows,
        )
    )


async def measure_held(hold: Hold, count: int) -> float:
    """Return how many bytes one of ``count`` things takes."""
    rules = (TopicRules(pattern="kept.*", history_size=HISTORY), TopicRules())
    async with Broker(rules=rules) as broker, AsyncExitStack() as stack:
        await hold(broker, stack, range(1))  # all is imported and begun now
        gc.collect()
        tracemalloc.start()
        try:
            await hold(broker, stack, range(1, count + 1))
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()


async def hold_subscriptions(
    broker: Broker, stack: AsyncExitStack, numbers: range
) -> None:
    for _ in numbers:
        await stack.enter_async_context(broker.subscribe("shared"))


async def hold_topics(broker: Broker, stack: AsyncExitStack, numbers: range) -> None:
    names = [f"topic.{number}" for number in numbers]
    for first in range(0, len(names), TOPICS_OF_ONE):
        some = names[first : first + TOPICS_OF_ONE]
        await stack.enter_async_context(broker.subscribe(*some))


async def hold_patterns(broker: Broker, stack: AsyncExitStack, numbers: range) -> None:
    names = [f"pattern.{number}.*" for number in numbers]
    for first in range(0, len(names), TOPICS_OF_ONE):
        some = names[first : first + TOPICS_OF_ONE]
        await stack.enter_async_context(broker.subscribe(*some))


async def hold_messages(broker: Broker, _: AsyncExitStack, numbers: range) -> None:
    for number in numbers:  # different ones, as people's are
        await broker.publish(f"kept.{number // HISTORY}", f"{number:0{PAYLOAD_BYTES}}")


HELD: dict[str, Hold] = {
    "subscription to a topic that is there": hold_subscriptions,
    f"topic, of a subscription with {TOPICS_OF_ONE}": hold_topics,
    f"pattern, of a subscription with {TOPICS_OF_ONE}": hold_patterns,
    f"message of {PAYLOAD_BYTES} bytes in the history of a topic": hold_messages,
}
TITLES = {
    "subscribers": "One message to more and more subscribers",
    "topics": "One message among more and more topics",
    "patterns": "One message among more and more patterns",
}
PROSE = {
    "subscribers": (
        f"In one process; messages of {PAYLOAD_BYTES} bytes. Processor time for each "
        "delivery, from the publish until all subscribers, each a task, have it."
    ),
    "topics": (
        "In one process. Processor time of a publish and of taking the message, by the "
        "one who has subscribed to that topic; others have subscribed to all others."
    ),
    "patterns": (
        "The same with one topic, and others who have subscribed to patterns that do "
        "not match."
    ),
}
