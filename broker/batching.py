"""Sending for many clients together, so that each has several messages to join."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from .pool import Sender, SenderPool
from .stats import Counters
from .wakeup import Wakeup

__all__ = ("Batcher",)

# How long clients are held back while messages keep coming (s; what a display at 50 Hz
# takes for a picture; a quarter of it costs half of the throughput, measured).
HOLD_S = 0.02
# The same where it takes longer than that to send to all: who would be sent to sooner
# would only get smaller frames (guess: what people begin to notice).
MAX_HOLD_S = 0.1
# Turns of the event loop without a publish after which a burst is over: one publish
# takes one or two.
QUIET_TURNS = 3


class Batcher:
    """Holds clients back for as long as messages come one right after the other.

    Every publish lets other tasks run, and without this each message of a burst would
    be sent alone. With it a single message waits for three turns of the event loop, and
    a burst until it is over, or for as long as it took to serve everybody the last
    time: 20 to 100 ms.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._held: list[Sender] = []
        self._held_longer: dict[float, list[Sender]] = {}  # {delay (s): who}
        self._wakeup = Wakeup()
        self._pool = SenderPool()

    async def run(self) -> None:
        """Send for whoever was held back; for as long as the node runs."""
        served_s = 0.0
        async with self._pool.running() as tasks:
            while True:
                while not (self._held or self._held_longer):
                    await self._wakeup.wait()
                await self._wait_quiet(min(max(served_s, HOLD_S), MAX_HOLD_S))
                began = anyio.current_time()
                self._pool.add(self._held)
                self._held = []  # and no other name for it, which would keep who leaves
                while self._held_longer:
                    tasks.start_soon(self._send_later, *self._held_longer.popitem())
                while self._pool.is_busy:
                    await anyio.lowlevel.checkpoint()
                served_s = anyio.current_time() - began

    def hold(self, sender: Sender, delay_s: float = 0.0) -> None:
        """Send for it with the others, and not before it has waited (s).

        Never blocks.
        """
        if delay_s:
            self._held_longer.setdefault(delay_s, []).append(sender)
        else:
            self._held.append(sender)
        if self._wakeup.armed:
            self._wakeup.notify()

    def hurry(self, sender: Sender) -> None:
        """Send for it after who waits for a turn: it need not wait for more."""
        self._pool.add((sender,))

    def close(self) -> None:
        """Free the wake-up stream; ``run`` has ended."""
        self._wakeup.close()

    async def _wait_quiet(self, most_s: float) -> None:
        until = anyio.current_time() + most_s
        seen, quiet = self._counters.published, 0
        while quiet < QUIET_TURNS and anyio.current_time() < until:
            await anyio.lowlevel.checkpoint()
            quiet = quiet + 1 if seen == self._counters.published else 0
            seen = self._counters.published

    async def _send_later(self, delay_s: float, senders: list[Sender]) -> None:
        await anyio.sleep(delay_s)
        self._pool.add(senders)
