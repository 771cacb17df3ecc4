"""What grows with what: subscribers, topics, patterns, and the memory of each."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
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

from .contenders import CONTENDERS, PAYLOAD_BYTES, Contender, Tally
from .in_process import Once, pacing, take_turn, tuned_collector
from .results import Outcome, Section, Spread, Verdict, alternate
from .rig import SMALL_BYTES, Open, Result, open_rig
from .scale_floor import open_floor

__all__ = ("Size", "run")

Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[Once]]
Hold: TypeAlias = Callable[[Broker, AsyncExitStack, range], Awaitable[None]]
Costs: TypeAlias = Sequence[Sequence[float]]  # (µs) by size, run by run

LOOPS = ("asyncio", "trio")
SERVERS = {
    "protocol served": "Centrifuge protocol",
    "ours served": "your own messages",
}
OURS, STREAMS = CONTENDERS[0], CONTENDERS[2]
FLOOR, NAIVE = "sending alone", "the naive loop"
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
        deliveries: of one run over hypercorn, about; a third of it on trio.
        rigs: whether to measure over hypercorn, and on which loops.
    """

    subscribers: Sequence[int] = (100, 1_000, 10_000)
    topics: Sequence[int] = (1, 1_000, 100_000)
    patterns: Sequence[int] = (0, 100, 10_000)
    counted: int = 10_000
    runs: int = 5
    turn_s: float = 0.2
    deliveries: int = 30_000
    rigs: Sequence[str] = LOOPS


def run(size: Size | None = None) -> Outcome:
    """Measure all of it."""
    size = size or Size()
    outcome = Outcome()
    with tuned_collector():
        subscribers(outcome, size)
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


def subscribers(outcome: Outcome, size: Size) -> None:
    """Measure a delivery with more and more subscribers: ours, and anyio's streams."""
    what, counts = "subscribers", size.subscribers
    openings = [
        partial(publishing_to, who, many) for who in (OURS, STREAMS) for many in counts
    ]
    rows: list[tuple[str, ...]] = []
    for loop in LOOPS:
        costs = anyio.run(race, openings, size, backend=loop)
        floors = {STREAMS.name: costs[len(counts) :]}
        rows += compare(outcome, what, loop, counts, costs[: len(counts)], floors)
    outcome.sections.append(
        Section(TITLES[what], PROSE[what], compared(what, counts), rows)
    )


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
        for number in range(size.runs + 1):
            for driver, mine in zip(drivers, costs, strict=True):
                gc.collect()  # else one pays for what another has left
                gc.freeze()
                done, elapsed = await take_turn(driver, size.turn_s)
                # Else thousands would go to sleep again in the next one's turn.
                await anyio.wait_all_tasks_blocked()
                if number:  # the first one warms up
                    mine.append(elapsed / done * 1e6)
    return costs


@asynccontextmanager
async def publishing_to(who: Contender, count: int) -> AsyncGenerator[Once, None]:
    """Yield what publishes a message and waits until all have it."""
    tally = Tally()
    async with (
        who.open(count, tally) as publish,
        pacing(publish, tally, count) as once,
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
    deliveries = size.deliveries // 3 if loop == "trio" else size.deliveries
    # In the order of how long it takes to connect all. After 30 s without a word the
    # kernel asks all clients of a server at once whether they are there, and drops most
    # of so many questions on loopback; who has lost one is gone.
    openings: dict[str, Open] = {
        server: partial(open_rig, server, loop),
        NAIVE: partial(open_rig, "naive served", loop),
        FLOOR: open_floor,
    }
    jobs: dict[str, Callable[[], Result]] = {}
    with ExitStack() as stack:
        for who, opening in openings.items():
            for clients in size.subscribers:
                rig = stack.enter_context(opening())
                rig.connect(clients)
                jobs[f"{who} {clients}"] = partial(
                    rig.run,
                    "paced",
                    messages=max(deliveries // clients, 2),
                    size=SMALL_BYTES,
                )
        found = alternate(jobs, size.runs)
    froze = [job for job, runs in found.items() if any(each.froze for each in runs)]
    assert not froze, f"clients were lost: {froze}"
    costs = {
        who: [
            [each.cpu_us for each in found[f"{who} {clients}"]]
            for clients in size.subscribers
        ]
        for who in openings
    }
    ours = costs.pop(server)
    what = f"clients, {SERVERS[server]}"
    outcome.sections.append(
        Section(
            f"Over hypercorn, {SERVERS[server]}, {loop}",
            OVER_HYPERCORN.format(deliveries=deliveries),
            compared("clients", size.subscribers),
            compare(outcome, what, loop, size.subscribers, ours, costs),
        )
    )


def compared(what: str, counts: Sequence[int]) -> tuple[str, ...]:
    """Return the header of what ``compare`` returns."""
    base = f"against {counts[0]:,}"
    return ("loop", "who", what, "µs", base, "asgi-broker against it", f"… {base}")


def compare(
    outcome: Outcome,
    what: str,
    loop: str,
    counts: Sequence[int],
    ours: Costs,
    floors: Mapping[str, Costs],
) -> list[tuple[str, ...]]:
    """Do as ``note``, beside what others take with as many, run by run."""
    rows = [
        (loop, "asgi-broker", *row[1:], "", "")
        for row in note(outcome, what, loop, counts, ours)
    ]
    for who, costs in floors.items():
        ratios = [
            [mine / floor for mine, floor in zip(*runs, strict=True)]
            for runs in zip(ours, costs, strict=True)
        ]
        for many, runs, ratio in zip(counts, costs, ratios, strict=True):
            outcome.figures[f"scale/{what}/{loop}/{many}/{who}"] = list(runs)
            rows.append(
                (
                    loop,
                    who,
                    f"{many:,}",
                    Spread.of(runs).show(),
                    Spread.ratios(runs, costs[0]).show(suffix="×"),
                    Spread.of(ratio).show(suffix="×"),
                    Spread.ratios(ratio, ratios[0]).show(suffix="×"),
                )
            )
        if who == FLOOR:
            continue  # the more is done besides, the less this part of it would show
        most = max(Spread.ratios(ratio, ratios[0]).median for ratio in ratios)
        outcome.verdicts.append(
            Verdict(
                f"{loop}: from {counts[0]:,} to {counts[-1]:,} {what} it grows at most "
                f"{FLAT:g}× as much as {who}",
                f"{most:.2f}×",
                most <= FLAT,
            )
        )
    return rows


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
        "delivery, from the publish until all subscribers, each a task, have it. "
        "Beside it what anyio's streams take, one for each and no more: the floor for "
        "whoever wakes tasks by them."
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
OVER_HYPERCORN = (
    "Processor time of `broker serve` for each delivery; a run publishes until about "
    "{deliveries:,} are made. All servers are there, in turns. Beside it the "
    "tutorials' loop, served alike, and a bare loop of `socket.send`, without an event "
    "loop: the floor for whoever has a socket for each client. To whoever hears less "
    "than about six times a second, as with 10,000 clients, Linux acknowledges each "
    "message at once, which on loopback the sender's time pays for; to others when "
    "they read, which the reader's does."
)
