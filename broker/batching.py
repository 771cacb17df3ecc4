"""Waking many writers together, so that each finds several messages to join."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from .stats import Counters
from .wakeup import Wakeup

__all__ = ("BatchedWakeup", "Batcher")

# How long writers are held back while messages keep coming (s; what a display at 50 Hz
# takes for a picture; a quarter of it costs half of the throughput, measured).
HOLD_S = 0.02
# The same where it takes longer than that to wake and send: who would be woken sooner
# would only get smaller frames (guess: what people begin to notice).
MAX_HOLD_S = 0.1
# Turns of the event loop without a publish after which a burst is over: one publish
# takes one or two.
QUIET_TURNS = 3


class Batcher:
    """Holds wake-ups back for as long as messages come one right after the other.

    Every publish lets other tasks run, and without this each writer would wake for each
    message of a burst and send it alone. With it a single message waits for three turns
    of the event loop, and a burst until it is over, or for as long as it took to serve
    everybody the last time: 20 to 100 ms.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._held: list[BatchedWakeup] = []
        self._wakeup = Wakeup()

    async def run(self) -> None:
        """Wake whoever was held back; for as long as the node runs."""
        served_s = 0.0
        while True:
            while not self._held:
                await self._wakeup.wait()
            until = anyio.current_time() + min(max(served_s, HOLD_S), MAX_HOLD_S)
            seen, quiet = self._counters.published, 0
            while quiet < QUIET_TURNS and anyio.current_time() < until:
                await anyio.lowlevel.checkpoint()
                quiet = quiet + 1 if seen == self._counters.published else 0
                seen = self._counters.published
            held, self._held = self._held, []
            began = anyio.current_time()
            for each in held:
                each.wake()
            # All of them have had their turn when the last of these comes.
            for _ in range(QUIET_TURNS):
                await anyio.lowlevel.checkpoint()
            served_s = anyio.current_time() - began

    def hold(self, wakeup: BatchedWakeup) -> None:
        """Wake it with the others. Never blocks."""
        self._held.append(wakeup)
        if self._wakeup.armed:
            self._wakeup.notify()

    def close(self) -> None:
        """Free the wake-up stream; ``run`` has ended."""
        self._wakeup.close()


class BatchedWakeup(Wakeup):
    """A wake-up that comes together with those of others.

    It is a semaphore: a memory object stream does the same, for twice as many
    instructions each time (49,000 of the 166,000 of a delivery on asyncio, measured),
    which other writers do not feel so much, and these do with each message that comes
    alone.
    """

    __slots__ = ("_batcher", "_is_closed", "_turn")

    def __init__(self, batcher: Batcher) -> None:
        self.armed = False
        self._batcher = batcher
        self._is_closed = False
        self._turn = anyio.Semaphore(0)

    def notify(self) -> None:
        """Have the waiter woken soon. Never blocks."""
        self.armed = False
        self._batcher.hold(self)

    async def wait_turn(self) -> None:
        """Wait until the others are woken, for who has something to do already."""
        self._batcher.hold(self)
        await self._sleep()

    def wake(self) -> None:
        """Wake the waiter, now or when it next waits. Never blocks."""
        self.armed = False
        if not self._turn.value:  # one that waits is enough for all
            self._turn.release()

    async def _sleep(self) -> None:
        if self._is_closed:
            await anyio.lowlevel.checkpoint()
        else:
            await self._turn.acquire()

    def close(self) -> None:
        """Wake the waiter for good. Idempotent."""
        self._is_closed = True
        self.wake()
