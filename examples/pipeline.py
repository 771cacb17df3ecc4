"""A pipeline inside one process, with backpressure from its end to its start.

Run: python -m examples.pipeline           (on asyncio)
     python -m examples.pipeline --trio    (on trio)

Numbers go in, a stage squares them, and a slow sink adds them up. Every queue has room
for two messages, and ``Overflow.BLOCK`` makes ``publish`` wait for room: so the producer
can run no faster than the sink, and nothing is ever dropped.
"""

import sys
from dataclasses import dataclass

import anyio

from broker import Broker, Gap, Message, Overflow, Subscription

NUMBERS = 20
ROOM = 2  # messages that each queue holds
END = "end"


@dataclass
class Progress:
    """What has happened so far."""

    produced: int = 0
    consumed: int = 0
    total: int = 0
    furthest_ahead: int = 0  # how far the producer ever was ahead of the sink


async def produce(broker: Broker, progress: Progress) -> None:
    for number in range(NUMBERS):
        await broker.publish("numbers", str(number))  # waits while the queue is full
        progress.produced += 1
        ahead = progress.produced - progress.consumed
        progress.furthest_ahead = max(progress.furthest_ahead, ahead)
    await broker.publish("numbers", END)


async def square(broker: Broker, numbers: Subscription) -> None:
    async for item in numbers:
        match item:
            case Message(payload=payload) if payload == END:
                await broker.publish("squares", END)
                return
            case Message(payload=payload):
                await broker.publish("squares", str(int(payload) ** 2))
            case Gap(missed=missed):  # told, never silent; with BLOCK it does not come
                raise RuntimeError(f"{missed} numbers are missing")


async def add_up(squares: Subscription, progress: Progress) -> None:
    async for item in squares:
        match item:
            case Message(payload=payload) if payload == END:
                return
            case Message(payload=payload):
                await anyio.sleep(0.01)  # slow work
                progress.total += int(payload)
                progress.consumed += 1
            case Gap(missed=missed):
                raise RuntimeError(f"{missed} squares are missing")


async def main() -> None:
    progress = Progress()
    options = {"overflow": Overflow.BLOCK, "max_messages": ROOM}
    async with (
        Broker() as broker,
        broker.subscribe("numbers", overflow=Overflow.BLOCK, max_messages=ROOM) as n,
        broker.subscribe("squares", overflow=Overflow.BLOCK, max_messages=ROOM) as s,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(produce, broker, progress)
        tasks.start_soon(square, broker, n)
        await add_up(s, progress)
    print(f"{progress.produced} numbers in, {progress.consumed} squares out")
    print(f"sum of the squares: {progress.total}")
    print(f"the producer was at most {progress.furthest_ahead} ahead of the sink")


if __name__ == "__main__":
    anyio.run(main, backend="trio" if "--trio" in sys.argv else "asyncio")
