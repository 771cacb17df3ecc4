"""A generator process: ``python -m adapters.loadtest.generator``, led by lines of JSON.

Orders come on standard input, answers go to standard output (``messages``). The end of
standard input ends the process: nothing is left of a coordinator that has died.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from collections.abc import Awaitable

import uvloop

from .comings import Comings
from .crowd import NS_PER_S, Crowd, sleep_until
from .dialing import ConnectError
from .latencies import Latencies
from .messages import (
    MAX_LINE_BYTES,
    Answer,
    Connected,
    Done,
    Failed,
    Go,
    Last,
    Ready,
    Results,
    Start,
    Stop,
    Tick,
    line,
    orders,
)
from .plan import Plan, Wire
from .publishing import Publishing
from .tally import TallyResult

__all__ = ("main",)

TELL_S = 0.2  # between two words on how many are connected
METRONOME_S = 0.01
QUIET_S = 0.3  # without anything new: see whether all has come (guess)


class Lost(Exception):
    """The coordinator is gone."""


class Span:
    """What happens from when it is made until its end."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        crowd.is_quiet()
        self._delivered = crowd.delivered
        self._at_ns = time.monotonic_ns()
        self._used_ns = time.process_time_ns()

    def end(self) -> tuple[float, int, float]:
        """Return how long it was (s), what came, and the share of a core it took."""
        used_ns = time.process_time_ns() - self._used_ns
        wall_ns = max(time.monotonic_ns() - self._at_ns, 1)
        self._crowd.is_quiet()
        delivered = self._crowd.delivered - self._delivered
        return wall_ns / NS_PER_S, delivered, used_ns / wall_ns


class Generator:
    """One process' share of a test.

    Args:
        plan: of the test.
        process: which of its processes this is, from 0.
        output: where answers go.
    """

    def __init__(self, plan: Plan, process: int, output: asyncio.StreamWriter) -> None:
        self.stopped = asyncio.Event()
        self.last: asyncio.Future[Last] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._process = process
        self._output = output
        self._crowd = Crowd(plan, process)
        self._comings = Comings(plan, process, self._crowd)
        self._waking = Latencies()
        self._late_ns = 0

    def say(self, answer: Answer) -> None:
        """Tell the coordinator, who always listens."""
        self._output.write(line(answer))

    async def connect(self) -> None:
        """Connect all clients.

        Raises:
            ConnectError: one could not.
        """
        told_ns = 0

        def tell(count: int) -> None:
            nonlocal told_ns
            now_ns = time.monotonic_ns()
            if now_ns - told_ns > TELL_S * NS_PER_S:
                told_ns = now_ns
                self.say(Connected(count))

        await self._crowd.connect(tell)
        self.say(Ready(self._comings.can_resume()))

    async def work(self, start_ns: int) -> None:
        """Publish, wait for what is still to come, and tell what was found."""
        plan = self._plan
        count_ns = start_ns + int(plan.warmup_s * NS_PER_S)
        end_ns = count_ns + int(plan.duration_s * NS_PER_S)
        self._crowd.begin(count_ns, end_ns)
        publishing = Publishing(
            plan, self._process, self._crowd.talkers, count_from_ns=count_ns
        )
        # What is there now stays: to look through it again and again stops everything.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            usual = [
                tasks.create_task(self._tick(publishing, start_ns, count_ns)),
                tasks.create_task(self._keep_time()),
            ]
            moves = [
                tasks.create_task(self._comings.drop_all(start_ns)),
                tasks.create_task(self._comings.churn(start_ns, end_ns)),
            ]
            await self._publish(publishing, start_ns, count_ns, end_ns)
            audiences = await self._settle(await self.last)
            for task in (*moves, *usual):
                task.cancel()
        results = Results(
            audiences=audiences,
            connecting=self._crowd.connecting.encode(),
            returning=self._comings.returning.encode(),
            lateness=publishing.lateness.encode(),
            waking=self._waking.encode(),
            resumed=self._comings.resumed,
            not_resumed=self._comings.not_resumed,
            unconnected=self._comings.unconnected,
            away=self._comings.absent,
            endings=self._crowd.endings,
            silenced=self._crowd.silenced,
            refusals=self._crowd.refusals,
        )
        self.say(results)
        self._crowd.leave()

    async def _publish(
        self, publishing: Publishing, start_ns: int, count_ns: int, end_ns: int
    ) -> None:
        """Publish until the end, or until told to stop, and tell what came of it."""
        task = asyncio.create_task(publishing.publish(start_ns, end_ns))
        stop = asyncio.create_task(self.stopped.wait())
        try:
            await _first_of(stop, sleep_until(count_ns))
            span = Span(self._crowd)
            await _first_of(stop, sleep_until(end_ns))
            counted_s, delivered, cpu = span.end()
            await _first_of(stop, task)
            await self._hear_refusals()
        finally:
            task.cancel()
            stop.cancel()
        if not self.stopped.is_set():
            # Longer than planned if this process stood still at the end; a timer that
            # was early by what it rounds is no reason to say less.
            counted_s = max(counted_s, self._plan.duration_s)
        done = Done(
            sent=publishing.sent(),
            unsent=publishing.unsent,
            counted_s=counted_s,
            delivered=delivered,
            cpu=cpu,
        )
        self.say(done)

    async def _hear_refusals(self) -> None:
        """Wait for what the server has against the last messages.

        The other processes are told once what was published, and nothing is due to
        their clients of what was refused; this one's own may be told later.
        """
        if self._plan.processes == 1 or self._plan.wire is not Wire.CENTRIFUGE:
            return
        before = -1
        while (now := self._crowd.refusals.total()) != before:
            before = now
            await asyncio.sleep(QUIET_S)

    async def _tick(self, publishing: Publishing, start_ns: int, count_ns: int) -> None:
        """Tell every second what was in it; seconds end where counting begins."""
        number = math.floor((start_ns - count_ns) / NS_PER_S) + 1
        while True:
            span = Span(self._crowd)
            try:
                await sleep_until(count_ns + number * NS_PER_S)
            finally:  # the last one is cut short
                self._tell_second(number, publishing, span)
            # One that was stopped for several seconds tells of them in one.
            passed = (time.monotonic_ns() - count_ns) // NS_PER_S
            number = max(number, passed) + 1

    def _tell_second(self, number: int, publishing: Publishing, span: Span) -> None:
        heard = self._crowd.heard()
        sent, late_ms = publishing.take_second()
        late_ns, self._late_ns = self._late_ns, 0
        tick = Tick(
            number=number,
            connected=self._crowd.connected(),
            sent=sent,
            refused=self._crowd.take_refused(),
            hearing=self._crowd.hearing(),
            heard=heard,
            late_ms=max(late_ms, late_ns / 1e6),
            cpu=span.end()[2],
        )
        self.say(tick)

    async def _keep_time(self) -> None:
        """Note how late this process wakes up, as often as it should have.

        What came meanwhile was read as late: no fault of the server's.
        """
        step_ns = int(METRONOME_S * NS_PER_S)
        due_ns = time.monotonic_ns()
        while True:
            due_ns += step_ns
            await sleep_until(due_ns)
            now_ns = time.monotonic_ns()
            self._late_ns = max(self._late_ns, now_ns - due_ns)
            while due_ns + step_ns <= now_ns:
                self._waking.record(now_ns - due_ns)
                due_ns += step_ns
            self._waking.record(now_ns - due_ns)

    async def _settle(self, last: Last) -> list[TallyResult]:
        """Wait until all has come, or no longer than the plan says."""
        deadline_ns = time.monotonic_ns() + int(self._plan.settle_s * NS_PER_S)
        self._crowd.read_on()
        is_looked_at = False
        while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
            await asyncio.sleep(min(QUIET_S, left_ns / NS_PER_S))
            if not self._crowd.is_quiet():
                is_looked_at = False
            elif not is_looked_at and not self._comings.absent:
                is_looked_at = True  # it takes long, and nothing has changed until then
                found = self._crowd.close_tallies(last.sent)
                if not any(each.missed_untold for each in found):
                    return found
        self._crowd.give_up_on_the_absent()
        return self._crowd.close_tallies(last.sent)


async def _first_of(stop: asyncio.Task[bool], other: Awaitable[None]) -> None:
    """Wait until one of them is done; the other's errors are raised."""
    task = asyncio.ensure_future(other)
    await asyncio.wait({stop, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    else:
        task.cancel()


async def _lead(generator: Generator, input_: asyncio.StreamReader) -> None:
    """Do what the coordinator says.

    Raises:
        ConnectError: a client could not connect.
        Lost: the coordinator is gone.
    """
    go: asyncio.Future[Go] = asyncio.get_running_loop().create_future()

    async def listen() -> None:
        while text := await input_.readline():
            match orders.decode(text):
                case Go() as order:
                    go.set_result(order)
                case Stop():
                    generator.stopped.set()
                case Last() as order:
                    generator.last.set_result(order)
        raise Lost

    async def work() -> None:
        await generator.connect()
        await generator.work((await go).start_ns)
        listening.cancel()

    try:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen())
            tasks.create_task(work())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def _run() -> int:
    loop = asyncio.get_running_loop()
    input_ = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(input_), sys.stdin
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sys.stdout
    )
    output = asyncio.StreamWriter(transport, protocol, None, loop)
    start = orders.decode(await input_.readline())
    if not isinstance(start, Start):
        return 1
    generator = Generator(start.plan, start.process, output)
    try:
        await _lead(generator, input_)
    except ConnectError as error:
        generator.say(Failed(str(error)))
    except Lost:
        return 1
    output.close()
    await output.wait_closed()
    return 0


def main() -> None:
    """Run until the coordinator has all, or is gone."""
    sys.exit(uvloop.run(_run()))


if __name__ == "__main__":
    main()
