"""Runs a load test: starts the generators, tells them when, and makes the report."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec

from . import preflight
from .children import BenchError, Child, all_of, open_children
from .figures import Figures, all_sent, merged, notes
from .floor import send_floor
from .machine import this_machine
from .messages import Done, Go, Last, Ready, Results, Stop, Tick
from .plan import Plan, Scenario
from .process import cores_in_reach
from .progress import Phase, Progress
from .report import Generators, Moment, Report
from .serveruse import Server
from .tally import audiences
from .verdict import warnings_for

__all__ = ("BenchError", "OnMoment", "run")

AnswerT = TypeVar("AnswerT")
OnMoment: TypeAlias = Callable[[Progress], None]

NS_PER_S = 1_000_000_000
LEAD_S = 0.3  # from the last word of the generators to the first message (guess)
TELL_S = 0.5  # between two words while clients connect
SLACK_S = 0.5  # until a second is told without those who are late
PATIENCE_S = 75.0  # a handshake, a greeting, and some more (guess)
FLOOR_S = 1.0
MAX_FLOOR_SOCKETS = 1_000


def run(
    plan: Plan, on_moment: OnMoment | None = None, *, with_floor: bool = False
) -> Report:
    """Run a load test and return what was found.

    Ctrl-C (SIGINT) while messages are published ends that, and the report says what is
    known: it is not complete. A second one, or one before, ends all at once.

    Args:
        on_moment: is told how far it has come, about once a second. Must be quick.
        with_floor: measure first what this machine could send at all, to as many
            sockets as there are clients, but not more than 1,000; takes a second.

    Raises:
        PreflightError: it would not work, or makes no sense; nothing was connected.
        BenchError: a client could not connect, or a generator process died.
        KeyboardInterrupt: somebody wants it to end. No process is left in any case.
    """
    preflight.check(plan)
    floor_per_s = 0.0
    if with_floor:
        sockets = min(plan.clients, MAX_FLOOR_SOCKETS)
        floor_per_s = send_floor(plan.size_bytes, sockets, FLOOR_S)
    try:
        test = _Test(plan, on_moment or (lambda progress: None), floor_per_s)
        return asyncio.run(test.run())
    except BaseExceptionGroup as group:
        raise _first(group) from None
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _Test:
    """One test, from the first connection to the report."""

    def __init__(self, plan: Plan, on_moment: OnMoment, floor_per_s: float) -> None:
        self._plan = plan
        self._on_moment = on_moment
        self._floor_per_s = floor_per_s
        self._figures = Figures(plan)
        self._server = Server(plan.pid)
        self._stop = asyncio.Event()
        self._told = asyncio.Event()  # of a second, by a generator
        self._is_publishing = False
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._notes: list[str] = []

    async def run(self) -> Report:
        """Do all of it."""
        self._server.note_idle()
        with _interrupts(self._interrupted):
            async with open_children(self._plan, self._take) as children:
                await self._connect(children)
                async with asyncio.TaskGroup() as tasks:
                    helpers = self._begin(tasks, children)
                    done = await self._done(children)
                    for child in children:
                        child.send(Last(all_sent(done)))
                    results = await _within(
                        self._plan.settle_s + PATIENCE_S,
                        "the generators gave no results",
                        [child.results for child in children],
                    )
                    for task in helpers:
                        task.cancel()
                    end_s = (time.monotonic_ns() - self._count_ns) / NS_PER_S
                    self._figures.finish(end_s)
                cores = self._cores(children)
        return self._report(done, results, cores)

    async def _connect(self, children: Sequence[Child]) -> None:
        """Return when all clients are connected."""
        plan = self._plan
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell_connected(children))
            answers = await _all_ready(children)
            telling.cancel()
        if plan.scenario is Scenario.RESUME and not all(
            each.can_resume for each in answers
        ):
            raise BenchError(
                "the server gives no position to resume from: give the topic a history"
            )
        self._server.note_connected()

    async def _tell_connected(self, children: Sequence[Child]) -> None:
        began_s = time.monotonic()
        takes_s = self._plan.clients / self._plan.ramp_per_s
        while True:
            cpu, rss_bytes = self._server.second()
            moment = Moment(
                at_s=-self._plan.warmup_s,
                connected=sum(child.connected for child in children),
                server_cpu=cpu,
                server_rss_bytes=rss_bytes,
            )
            elapsed_s = time.monotonic() - began_s
            self._tell(Phase.CONNECTING, elapsed_s, takes_s, moment)
            await asyncio.sleep(TELL_S)

    def _begin(
        self, tasks: asyncio.TaskGroup, children: Sequence[Child]
    ) -> list[asyncio.Task[None]]:
        """Say when it begins, and start what goes on besides."""
        start_ns = time.monotonic_ns() + int(LEAD_S * NS_PER_S)
        self._count_ns = start_ns + int(self._plan.warmup_s * NS_PER_S)
        self._is_publishing = True
        for child in children:
            child.send(Go(start_ns))
        work = (
            self._clock(start_ns),
            self._pass_on_stop(children),
            self._read_server(),
        )
        return [tasks.create_task(each) for each in work]

    async def _done(self, children: Sequence[Child]) -> list[Done]:
        left_s = (self._count_ns - time.monotonic_ns()) / NS_PER_S
        return await _within(
            left_s + self._plan.duration_s + PATIENCE_S,
            "the generators did not end",
            [child.done for child in children],
        )

    async def _clock(self, start_ns: int) -> None:
        """Tell every second what was in it; late processes' share comes later."""
        number = math.floor((start_ns - self._count_ns) / NS_PER_S) + 1
        while True:
            end_ns = self._count_ns + number * NS_PER_S
            await _sleep_until(end_ns)
            left_s = (end_ns - time.monotonic_ns()) / NS_PER_S + SLACK_S
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    while not self._figures.has(number):
                        self._told.clear()
                        await self._told.wait()
            cpu, rss_bytes = self._server.second()
            moment = self._figures.moment(number, cpu=cpu, rss_bytes=rss_bytes)
            phase, elapsed_s, total_s = self._figures.phase(number)
            self._tell(phase, elapsed_s, total_s, moment)
            if not moment.connected and self._figures.has(number):
                self._all_gone(number)
            number += 1

    def _take(self, process: int, tick: Tick) -> None:
        self._figures.take(process, tick)
        self._told.set()

    async def _pass_on_stop(self, children: Sequence[Child]) -> None:
        await self._stop.wait()
        for child in children:
            child.send(Stop())

    async def _read_server(self) -> None:
        await _sleep_until(self._count_ns)
        self._server.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._plan.duration_s):
                await self._stop.wait()
        self._server.end()

    def _tell(
        self, phase: Phase, elapsed_s: float, total_s: float, moment: Moment
    ) -> None:
        progress = Progress(
            phase=phase,
            elapsed_s=elapsed_s,
            total_s=total_s,
            clients=self._plan.clients,
            moment=moment,
            audiences=self._figures.audiences(),
            warnings=tuple(self._notes),
        )
        self._on_moment(progress)

    def _all_gone(self, number: int) -> None:
        if number <= self._plan.duration_s and not self._stop.is_set():
            self._notes.append(
                "The server has closed all connections: the figures end there."
            )
            self._stop.set()

    def _interrupted(self, task: asyncio.Task[object]) -> None:
        if self._is_publishing and not self._stop.is_set():
            self._stop.set()
        else:
            task.cancel()

    def _cores(self, children: Sequence[Child]) -> int | None:
        """Return how many cores server and generators have; None if it is elsewhere."""
        pids = [child.pid for child in children]
        if self._plan.pid is not None:
            return cores_in_reach([self._plan.pid, *pids])
        host = urlsplit(self._plan.url).hostname or ""
        is_here = host in ("localhost", "::1") or host.startswith("127.")
        return cores_in_reach(pids) if is_here else None

    def _report(
        self, done: Sequence[Done], results: Sequence[Results], cores: int | None
    ) -> Report:
        counted_s = max(each.counted_s for each in done)
        delivered = sum(each.delivered for each in done)
        sent = all_sent(done).values()
        tallies = [tally for each in results for tally in each.audiences]
        report = Report(
            plan=msgspec.structs.replace(self._plan, token=None),  # a secret
            started=self._started,
            machine=this_machine(self._floor_per_s),
            is_complete=not self._stop.is_set(),
            measured_s=counted_s,
            sent=sum(each.end - each.first for each in sent),
            deliveries_per_s=delivered / counted_s if counted_s else 0.0,
            connecting=merged(each.connecting for each in results),
            returning=merged(each.returning for each in results),
            resumed=sum(each.resumed for each in results),
            not_resumed=sum(each.not_resumed for each in results),
            audiences=audiences(tallies),
            moments=tuple(self._figures.moments),
            generators=Generators(
                cpu=tuple(each.cpu for each in done),
                lateness=merged(each.lateness for each in results),
                waking=merged(each.waking for each in results),
            ),
            server=self._server.use(delivered),
        )
        warnings = warnings_for(
            report,
            early=sum(each.early for each in tallies),
            unsent=sum(each.unsent for each in done),
            unconnected=sum(each.unconnected for each in results),
            cores=cores,
        )
        said = (*self._notes, *notes(results), *warnings)
        return msgspec.structs.replace(report, warnings=said)


async def _all_ready(children: Sequence[Child]) -> list[Ready]:
    """Return when all clients are connected, as long as any more are."""
    ready = asyncio.ensure_future(all_of([child.ready for child in children]))
    try:
        while True:
            before = sum(child.connected for child in children)
            await asyncio.wait({ready}, timeout=PATIENCE_S)
            if ready.done():
                return ready.result()
            if sum(child.connected for child in children) == before:
                raise BenchError(f"no more clients connected within {PATIENCE_S:.0f} s")
    finally:
        ready.cancel()


async def _within(
    patience_s: float, what: str, answers: Sequence[asyncio.Future[AnswerT]]
) -> list[AnswerT]:
    try:
        async with asyncio.timeout(patience_s):
            return await all_of(answers)
    except TimeoutError:
        raise BenchError(f"{what} within {patience_s:.0f} s") from None


@contextmanager
def _interrupts(
    interrupted: Callable[[asyncio.Task[object]], None],
) -> Generator[None, None, None]:
    """Have Ctrl-C call that with the running task, for as long as the block runs.

    In another thread than the main one, where there are no signals, nothing is done.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    try:
        loop.add_signal_handler(signal.SIGINT, interrupted, task)
    except (ValueError, RuntimeError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _sleep_until(at_ns: int) -> None:
    await asyncio.sleep(max(at_ns - time.monotonic_ns(), 0) / NS_PER_S)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended all: what it brought about is of no interest."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
