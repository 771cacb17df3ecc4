"""Two nodes of one contender and the engine between them, each a process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .backplane_engines import Engine, cpu_s
from .rig import QUIET, ROOT

__all__ = ("Pair", "Taken", "open_pair")


@dataclass(frozen=True, slots=True)
class Taken:
    """Processor time that something has taken, of each process (s)."""

    publisher: float
    subscriber: float
    engine: float


class Process:
    """A node; see ``backplane_node``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Have it do something, and return what it says.

        Raises:
            RuntimeError: it has died; why is on standard error.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next thing that it says."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"a node has died: {self._process.args!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End it, not politely: broadcaster fails if two topics are left at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Pair:
    """The node that publishes and the one that subscribes, which may be the same."""

    def __init__(self, engine: Engine, publisher: Process, subscriber: Process) -> None:
        self._engine = engine
        self.publisher = publisher
        self.subscriber = subscriber

    def wait_ready(self) -> None:
        """Wait until both are connected."""
        self.publisher.answer()
        if self.subscriber is not self.publisher:
            self.subscriber.answer()

    def taken(self) -> Taken:
        """Return what each has taken since it started (s)."""
        engine = cpu_s(self._engine.pid) if self._engine.pid else 0.0
        return Taken(cpu_s(self.publisher.pid), cpu_s(self.subscriber.pid), engine)


def open_pair(
    stack: ExitStack, who: str, loop: str, url: str, engine: Engine, *, nodes: int
) -> Pair:
    """Start a contender's nodes until the stack is closed; they are not ready yet.

    Args:
        nodes: 1 or 2; with one, the same publishes and subscribes.
    """
    hear, tell = socket.socketpair()
    with hear, tell:
        words = (who, loop, url, str(hear.fileno()), str(tell.fileno()))
        fds = (hear.fileno(), tell.fileno())
        publisher = _start(stack, words, fds)
        subscriber = _start(stack, words, fds) if nodes == 2 else publisher
    return Pair(engine, publisher, subscriber)


def _start(stack: ExitStack, words: tuple[str, ...], fds: tuple[int, ...]) -> Process:
    process = Process(
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.backplane_node", *words],
            cwd=ROOT,
            env=QUIET,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
        )
    )
    stack.callback(process.end)
    return process
