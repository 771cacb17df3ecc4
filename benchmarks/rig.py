"""One server process and one process with its clients, each on a core of its own."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

__all__ = (
    "JUDGED",
    "SERVERS",
    "SMALL_BYTES",
    "Open",
    "Result",
    "Rig",
    "Size",
    "connected",
    "is_linux",
    "open_rig",
)

LOOPS = ("asyncio", "uvloop", "trio")
# {chat of ``benchmarks.serve``, and whether ``broker serve`` serves it: label}; the
# others are under hypercorn as it comes.
SERVERS = {
    "ours served": "asgi-broker, broker serve",
    "ours": "asgi-broker, plain hypercorn",
    "naive served": "naive loop, broker serve",
    "naive": "naive loop",
}
JUDGED = "ours served"  # against the last one
SMALL_BYTES = 128

ROOT = Path(__file__).parents[1]
QUIET = {**os.environ, "BROKER_SERVER_LOG_LEVEL": "warning"}
ANSWER_S = 90.0  # longest wait for anything; guess, several times what is needed
is_linux = Path("/proc/self/schedstat").exists()


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        paced: messages of a paced run; a third of it on trio.
        burst: messages of a burst; a third of it on trio.
        stall: messages of a run with stalled clients, 8 KiB each: enough to fill every
            buffer, and less than an outbox holds.
        bursts: bursts of a run for a server that has joined frames, and would be done
            with one before a clock could tell.
        idle: connections whose memory is measured; 0 for none.
        settle_s: until all is done that a connection brings (s; guess).
    """

    loops: Sequence[str] = LOOPS
    clients: int = 500
    runs: int = 5
    paced: int = 60
    burst: int = 180
    stall: int = 60
    bursts: int = 10
    idle: int = 1_000
    settle_s: float = 1.0

    def messages(self, mode: str, loop: str) -> int:
        count = self.paced if mode == "paced" else self.burst
        return max(count // 3, 1) if loop == "trio" else count


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Attributes:
        per_s: deliveries per second.
        cpu_us: processor time of the server per delivery (µs); nan where unknown.
        p50_ms, p99_ms: from publish to what a sampled client has read (ms).
        clients_busy: share of the time that the clients' process had work (0 to 1);
            near 1 it is they who are measured, and not the server.
        froze: nothing came any more before all was delivered.
    """

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    delivered: int
    expected: int
    clients_busy: float

    @property
    def froze(self) -> bool:
        return self.delivered < self.expected


class Rig:
    """A server with its clients."""

    def __init__(
        self, server: subprocess.Popen[bytes], load: subprocess.Popen[bytes], port: int
    ) -> None:
        self._server = server
        self._load = load
        self.port = port

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Have the clients do something, and return what they say."""
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
        self._load.stdin.flush()
        answer: dict[str, Any] = json.loads(self._load.stdout.readline())
        return answer

    def connect(self, clients: int, *, stalled: int = 0, sampled: int = 50) -> None:
        """Connect all and see that each of them is subscribed."""
        self.ask(
            "connect",
            port=self.port,
            clients=clients,
            stalled=stalled,
            sampled=min(sampled, clients),
        )
        for _ in range(3):
            self.run("paced", messages=1, size=128)

    def run(
        self,
        mode: str,
        *,
        messages: int,
        size: int,
        quiet_s: float = 5.0,
        **details: Any,
    ) -> Result:
        """Return one run; ``quiet_s`` without a delivery ends it (s)."""
        before = self.cpu_s()
        answer = self.ask(
            mode, messages=messages, size=size, quiet_s=quiet_s, **details
        )
        delivered = answer["delivered"]
        return Result(
            per_s=delivered / answer["seconds"],
            cpu_us=(self.cpu_s() - before) / max(delivered, 1) * 1e6,
            p50_ms=answer["p50_ms"],
            p99_ms=answer["p99_ms"],
            delivered=delivered,
            expected=answer["expected"],
            clients_busy=answer["busy"],
        )

    def cpu_s(self) -> float:
        """Return what processor time the server has taken (s); nan where unknown."""
        if not is_linux:
            return float("nan")
        # Of its main thread, and it has no other that works.
        path = Path(f"/proc/{self._server.pid}/schedstat")
        return int(path.read_text(encoding="ascii").split()[0]) / 1e9

    def resident_bytes(self) -> int:
        """Return how much memory the server has; Linux only."""
        status = Path(f"/proc/{self._server.pid}/status").read_text(encoding="ascii")
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


@contextmanager
def open_rig(
    server: str, loop: str, *, collector: str = "tuned", buffer_bytes: int = 0
) -> Generator[Rig, None, None]:
    """Run a server and a process for its clients for as long as the block runs.

    Args:
        server: a chat of ``benchmarks.serve``, with `` served`` if that is by
            ``broker serve``.
        buffer_bytes: the server's send buffer in the kernel for each client; 0 for
            what the kernel thinks right, which is megabytes on loopback.
    """
    wanted, most = 16_384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        if buffer_bytes:  # inherited by what is accepted
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1_024)
        fd = listener.fileno()
        chat, _, is_served = server.partition(" ")
        words: tuple[str, ...] = ("benchmarks.serve", chat, loop, collector, str(fd))
        if is_served:
            application = ("adapters.cli", "serve", f"benchmarks.hosted:{chat}")
            words = (*application, "--loop", loop, "--bind", f"fd://{fd}")
        running = _start(stack, *words, fds=(fd,))
        load = "protocol_load" if chat == "protocol" else "load"
        clients = _start(stack, f"benchmarks.{load}", pipes=subprocess.PIPE)
        _pin(running.pid, clients.pid)
        yield Rig(running, clients, listener.getsockname()[1])


Open: TypeAlias = Callable[[], AbstractContextManager[Rig]]


def connected(stack: ExitStack, opening: Open, size: Size) -> Rig:
    """Open a rig until the stack is closed, with all clients connected."""
    rig = stack.enter_context(opening())
    rig.connect(size.clients)
    return rig


def _start(
    stack: ExitStack, *words: str, pipes: int | None = None, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", *words]
    process = subprocess.Popen(
        command, cwd=ROOT, env=QUIET, stdin=pipes, stdout=pipes, pass_fds=fds
    )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Not politely: a server with stalled clients may never end.
    process.kill()
    process.wait(ANSWER_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _pin(server: int, clients: int) -> None:
    """Give each a core of its own, where that can be done."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(server, {cores[0]})
            os.sched_setaffinity(clients, {cores[1]})
