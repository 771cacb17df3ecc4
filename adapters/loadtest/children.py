"""The generator processes, as the coordinator sees them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from .messages import (
    MAX_LINE_BYTES,
    Answer,
    Connected,
    Done,
    Failed,
    Order,
    Ready,
    Results,
    Start,
    Tick,
    answers,
    line,
)
from .plan import Plan

__all__ = ("BenchError", "Child", "OnTick", "all_of", "open_children")

AnswerT = TypeVar("AnswerT")
# The very code that runs here, and not what the working directory has of that name.
COMMAND = (sys.executable, "-P", "-m", "adapters.loadtest.generator")
ROOT = str(Path(__file__).parents[2])
LEAVE_S = 5.0  # until a process that has said all is ended (guess)


class BenchError(RuntimeError):
    """A load test could not be run, or not to its end; one line says why."""


class Child:
    """One generator process.

    Attributes:
        connected: how many of its clients are, while they still connect.
        ready, done, results: its answers, when they come; BenchError instead of those
            that will not.
    """

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, on_tick: OnTick
    ) -> None:
        loop = asyncio.get_running_loop()
        self.connected = 0
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.done: asyncio.Future[Done] = loop.create_future()
        self.results: asyncio.Future[Results] = loop.create_future()
        self._number = number
        self._process = process
        self._on_tick = on_tick

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, order: Order) -> None:
        """Tell it something. One that has died does not hear it, and that is seen."""
        assert self._process.stdin is not None
        self._process.stdin.write(line(order))

    async def listen(self) -> None:
        """Take its answers until there are no more."""
        assert self._process.stdout is not None
        why = ""
        try:
            while text := await self._process.stdout.readline():
                why = self._take(answers.decode(text)) or why
        except (ValueError, msgspec.MsgspecError) as error:
            why = f"generator process {self._number} said what makes no sense: {error}"
        self._fail(why or f"generator process {self._number} has died")

    async def end(self) -> None:
        """See that it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()

    def _take(self, answer: Answer) -> str:
        match answer:
            case Connected():
                self.connected = answer.count
            case Tick():
                self._on_tick(self._number, answer)
            case Ready():
                self.ready.set_result(answer)
            case Done():
                self.done.set_result(answer)
            case Results():
                self.results.set_result(answer)
            case Failed():
                return answer.why
        return ""

    def _fail(self, why: str) -> None:
        for answer in (self.ready, self.done, self.results):
            if not answer.done():
                answer.set_exception(BenchError(why))
                answer.exception()  # perhaps nobody asks: another was first


OnTick: TypeAlias = Callable[[int, Tick], None]


@asynccontextmanager
async def open_children(
    plan: Plan, on_tick: OnTick
) -> AsyncGenerator[list[Child], None]:
    """Run the generator processes of a plan for as long as the block runs.

    They begin to connect at once. None is left when the block has ended, however it
    does: those that have given their results go by themselves, all others are ended.

    Args:
        on_tick: is given each second of each process: its number, and the second.
    """
    children: list[Child] = []
    path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
    async with asyncio.TaskGroup() as tasks:
        try:
            for number in range(plan.processes):
                process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    limit=MAX_LINE_BYTES,
                    env={**os.environ, "PYTHONPATH": path},
                    # A terminal's Ctrl-C is for us: they are to tell what they have.
                    process_group=0,
                )
                child = Child(number, process, on_tick)
                children.append(child)
                tasks.create_task(child.listen())
                child.send(Start(plan, number))
            yield children
        finally:
            for child in children:
                if not child.results.done() or child.results.exception() is not None:
                    child.kill()
            for child in children:
                await child.end()


async def all_of(answers: Iterable[asyncio.Future[AnswerT]]) -> list[AnswerT]:
    """Return the answers of all processes.

    Raises:
        BenchError: one will not come, and the others are not waited for.
    """
    return await asyncio.gather(*map(asyncio.shield, answers))
