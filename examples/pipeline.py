"""A pipeline inside one process, with backpressure from its end to its start.

Run: python -m examples.pipeline
     python -m examples.pipeline --trio

Numbers go in, a stage squares them, a slow sink adds them up. Each queue has room for
two messages, and with ``Overflow.BLOCK`` a publisher waits for room: the producer runs
no faster than the sink, and nothing is dropped.
"""

import sys
from dataclasses import dataclass

import anyio

from broker import Broker, Gap, Message, Overflow, Subscription

NUMBERS = 20
ROOM = 2  # messages that each queue holds


@dataclass
class Progress:
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
    await broker.publish("numbers", "end")


async def square(broker: Broker, numbers: Subscription) -> None:
    async for item in numbers:
        match item:
            case Message(payload="end"):
                await broker.publish("squares", "end")
                return
            case Message(payload=payload):
                await broker.publish("squares", str(int(payload) ** 2))
            case Gap(missed=missed):  # a loss is told, never silent; BLOCK has none
                raise RuntimeError(f"{missed} numbers are missing")


async def add_up(squares: Subscription, progress: Progress) -> None:
    async for item in squares:
        match item:
            case Message(payload="end"):
                return
            case Message(payload=payload):
                await anyio.sleep(0.01)  # work that takes its time
                progress.total += int(payload)
                progress.consumed += 1
            case Gap(missed=missed):
                raise RuntimeError(f"{missed} squares are missing")


async def main() -> None:
    progress = Progress()
    async with (
        Broker() as broker,
        broker.subscribe(
            "numbers", overflow=Overflow.BLOCK, max_messages=ROOM
        ) as numbers,
        broker.subscribe(
            "squares", overflow=Overflow.BLOCK, max_messages=ROOM
        ) as squares,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(produce, broker, progress)
        tasks.start_soon(square, broker, numbers)
        await add_up(squares, progress)
    print(f"{progress.produced} numbers in, {progress.consumed} squares out")
    print(f"the sum of the squares is {progress.total}")
    print(f"the producer was never more than {progress.furthest_ahead} ahead")


if __name__ == "__main__":
    anyio.run(main, backend="trio" if "--trio" in sys.argv else "asyncio")
