"""Shutdown (G7): everybody is told, it ends in time, and nothing is left behind.

The real command with one worker and with two, on each event loop.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.e2e.clients import raw_client
from tests.e2e.shutdown_app import BURST
from tests.serving import PATIENCE_S, Server, wait_until

pytestmark = pytest.mark.e2e

T = TypeVar("T")

LOOPS = ("serve-asyncio", "serve-uvloop", "serve-trio")
APP = "tests.e2e.shutdown_app:app"
DRAIN_S = 4.0
MARGIN_S = 3.0  # for a slow machine
SOON_S, LATER_S = 0.2, 0.7  # two signals within 0.5 s are one
TIME_WAIT = "06"  # of /proc/net/tcp: closed by both sides

on_every_loop = pytest.mark.parametrize("loop", LOOPS)
with_one_and_two = pytest.mark.parametrize("workers", [1, 2])
# With two it is the supervisor that counts, and it runs no loop.
each_loop_and_two = pytest.mark.parametrize(
    ("loop", "workers"), [*((loop, 1) for loop in LOOPS), ("serve-trio", 2)]
)


@contextmanager
def serving(
    loop: str, workers: int, *, app: str = APP, drain_s: float = DRAIN_S
) -> Iterator[Server]:
    """Start the command, and wait until all its workers serve."""
    with Server(
        app,
        loop,
        options=("--workers", str(workers), "--allow-split"),
        variables={"BROKER_SERVER_DRAIN_S": str(drain_s)},
    ) as server:
        wait_until(lambda: server.log().count("Running on") == workers)
        yield server


def in_every_worker(workers: int, connect: Callable[[], tuple[T, int]]) -> list[T]:
    """Connect a client to each worker.

    Whoever has one is stopped meanwhile: the kernel might choose it hundreds of times.
    """
    clients: dict[int, T] = {}
    try:
        while len(clients) < workers:
            client, pid = connect()
            assert pid not in clients
            clients[pid] = client
            os.kill(pid, signal.SIGSTOP)
    finally:
        for pid in clients:
            os.kill(pid, signal.SIGCONT)
    return list(clients.values())


def reader(
    server: Server, stack: ExitStack, path: str, buffer_bytes: int = 0
) -> tuple[ClientConnection, int]:
    """Connect a client that reads when it is told to; return also its worker's pid."""
    sock = socket.socket()
    if buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.connect(("127.0.0.1", server.port))
    client = server.connect(path, sock=sock, max_queue=1, ping_interval=None)
    stack.enter_context(client)
    return client, int(client.recv(timeout=PATIENCE_S))


def stalled(server: Server, stack: ExitStack, path: str) -> tuple[socket.socket, int]:
    """Connect a client that reads the worker's pid and then never again."""
    sock = raw_client(server.port, path, buffer_bytes=4_096)
    stack.enter_context(closing(sock))
    sock.settimeout(PATIENCE_S)
    while sock.recv(1) != b"\x81":  # the end of the headers, then a text frame
        pass
    pid = sock.recv(sock.recv(1)[0], socket.MSG_WAITALL)
    return sock, int(pid)


def mute(server: Server, stack: ExitStack, path: str = "/ws") -> socket.socket:
    """Connect a client that holds the drain open: it does not answer a close."""
    return stack.enter_context(closing(raw_client(server.port, path)))


@contextmanager
def blocked(server: Server) -> Iterator[None]:
    """Have the event loop of one worker blocked for ever."""
    with closing(socket.create_connection(("127.0.0.1", server.port))) as sock:
        sock.sendall(b"GET /block HTTP/1.0\r\n\r\n")
        wait_until(lambda: "blocked" in server.log())
        yield


def read_to_the_end(client: ClientConnection) -> list[str]:
    """Return all that comes before the close, which must be the right one."""
    texts = []
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            texts.append(str(client.recv(timeout=PATIENCE_S)))
    assert closed.value.rcvd is not None, texts[-1:]
    assert closed.value.rcvd.code == 1012
    assert closed.value.rcvd.reason == "server restart, come back"
    return texts


def has_been_cut(sock: socket.socket) -> bool:
    """Read to the end of a connection; a live one does not get there in time."""
    sock.settimeout(PATIENCE_S)
    try:
        while sock.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


def is_refused(server: Server) -> bool:
    """Try to connect; a refusal must say when to come back."""
    try:
        server.connect("/ticks").close()
    except InvalidStatus as refusal:
        answer = refusal.response
    else:
        return False
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    return True


def worker_pids(server: Server) -> list[int]:
    """Return the supervisor's workers; it has another child, multiprocessing's."""
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    children = {
        int(pid) for task in tasks for pid in (task / "children").read_text().split()
    }
    return [
        pid
        for pid in children
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def has_gone(pid: int) -> bool:
    """Whether a process does nothing any more; a zombie waits for somebody else."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def sockets_of(server: Server) -> list[str]:
    """Return what the kernel still holds of the server's connections."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        " ".join(row)
        for row in rows
        if row[1].endswith(f":{server.port:04X}") and row[3] != TIME_WAIT
    ]


@on_every_loop
@with_one_and_two
def test_g7_clients_of_every_kind_at_sigterm(loop: str, workers: int) -> None:
    """Idle, busy, late and stalled ones: who reads gets all, and then the reason."""
    with serving(loop, workers) as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect("/ws")) for _ in range(3)]
        busy = in_every_worker(workers, lambda: reader(server, stack, "/ticks"))
        late = in_every_worker(workers, lambda: reader(server, stack, "/burst", 4_096))
        stuck = in_every_worker(workers, lambda: stalled(server, stack, "/burst"))
        full = len(late) + len(stuck)
        wait_until(lambda: server.log().count("burst is queued") == full)
        assert server.get("/readyz").status_code == 200

        began = time.monotonic()
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz").status_code == 503)
        wait_until(lambda: is_refused(server))
        for client in idle:
            assert read_to_the_end(client) == []
        for client in late:
            texts = read_to_the_end(client)
            assert [int(text.split(":")[0]) for text in texts] == [*range(BURST)]
        for client in busy:
            numbers = [int(text) for text in read_to_the_end(client)]
            assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]
        assert server.get("/readyz").status_code == 503  # the stalled hold it open
        assert server.wait() == 0
        assert time.monotonic() - began < DRAIN_S + MARGIN_S

        assert all(map(has_been_cut, stuck))
        wait_until(lambda: sockets_of(server) == [])
        assert server.log().count(" clients had not gone\n") == workers
        assert "drained, 0 clients" not in server.log()  # each had a stalled one


@each_loop_and_two
def test_g7_ctrl_c_that_comes_twice_is_one(loop: str, workers: int) -> None:
    """Our own application; SIGINT does as SIGTERM does."""
    with serving(loop, workers, app="", drain_s=2) as server, ExitStack() as stack:
        client = stack.enter_context(server.connect("/ws"))
        mute(server, stack)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        wait_until(lambda: "SIGINT: stopping" in server.log())
        if time.monotonic() - began < SOON_S:  # on a machine that is not overloaded
            server.signal(signal.SIGINT)
        assert read_to_the_end(client) == []
        wait_until(lambda: server.get("/readyz").status_code == 503)
        assert server.wait() == 0
        assert server.log().count(": stopping") == 1


@each_loop_and_two
def test_g7_the_second_signal_ends_it_at_once(loop: str, workers: int) -> None:
    with serving(loop, workers, drain_s=60) as server, ExitStack() as stack:
        mutes = [mute(server, stack) for _ in range(4)]
        pids = worker_pids(server)
        assert len(pids) == (0 if workers == 1 else workers)
        server.signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in server.log())
        later = time.monotonic() + LATER_S
        wait_until(lambda: time.monotonic() > later)
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
        assert time.monotonic() - later < MARGIN_S
        wait_until(lambda: all(map(has_gone, pids)))
        assert all(map(has_been_cut, mutes))


def test_g7_what_counts_as_a_second_signal() -> None:
    """Whatever comes within half a second of the first is ignored."""
    code = """if True:
        import os, signal, time
        from adapters.hosting.signals import die_of_the_next
        die_of_the_next(time.monotonic() + 60)  # the first is yet to come
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        print("alive", flush=True)
        die_of_the_next(time.monotonic() - 0.6, lambda: print("last words", flush=True))
        os.kill(os.getpid(), signal.SIGINT)
        print("not reached")
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stdout == "alive\nlast words\n"


@on_every_loop
def test_g7_workers_do_not_outlive_a_supervisor_that_is_killed(loop: str) -> None:
    with serving(loop, 2) as server, ExitStack() as stack:
        clients = in_every_worker(2, lambda: reader(server, stack, "/ticks"))
        pids = worker_pids(server)
        assert len(pids) == 2
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        for client in clients:
            read_to_the_end(client)
        wait_until(lambda: all(map(has_gone, pids)), DRAIN_S + MARGIN_S)
        assert server.log().count("0 clients had not gone") == 2


def test_g7_a_worker_that_dies_takes_the_others_with_it() -> None:
    """Politely: their clients are told. Whoever runs the command starts it anew."""
    with serving("serve-uvloop", 2) as server, ExitStack() as stack:
        pids = worker_pids(server)
        by_pid: dict[int, ClientConnection] = {}

        def connect() -> tuple[ClientConnection, int]:
            client, pid = reader(server, stack, "/ticks")
            by_pid[pid] = client
            return client, pid

        in_every_worker(2, connect)
        victim, survivor = pids
        os.kill(victim, signal.SIGKILL)
        read_to_the_end(by_pid[survivor])
        # What nobody reads keeps its client from seeing the end, and from closing.
        with pytest.raises(ConnectionClosed) as cut:
            while True:
                by_pid[victim].recv(timeout=PATIENCE_S)
        assert cut.value.rcvd is None
        assert server.wait() == 1
        assert has_gone(survivor)
        assert "ended by itself, with exit code -9" in server.log()


@each_loop_and_two
def test_g7_a_shutdown_that_blocks_ends_at_the_deadline(
    loop: str, workers: int
) -> None:
    app = "tests.e2e.shutdown_app:blocking"
    with serving(loop, workers, app=app, drain_s=1) as server:
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert 0.9 < time.monotonic() - began < 1 + MARGIN_S
        assert server.log().count("not stopped after 1 s") == workers


@each_loop_and_two
def test_g7_an_application_that_blocks_already(loop: str, workers: int) -> None:
    """Its event loop hears of no signal, and it ends all the same."""
    with serving(loop, workers, drain_s=1) as server, blocked(server):
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        # The supervisor has mercy for two seconds more.
        assert 0.9 < time.monotonic() - began < 3 + MARGIN_S


@on_every_loop
def test_g7_the_second_signal_ends_what_blocks(loop: str) -> None:
    with serving(loop, 1, drain_s=60) as server, blocked(server):
        server.signal(signal.SIGINT)
        later = time.monotonic() + LATER_S
        wait_until(lambda: time.monotonic() > later)
        server.signal(signal.SIGINT)
        assert server.wait() == -signal.SIGINT


def test_g7_workers_that_do_nothing_any_more_are_killed() -> None:
    with serving("serve-asyncio", 2, drain_s=1) as server:
        frozen = worker_pids(server)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert all(map(has_gone, frozen))
        assert "2 workers do not stop: killing them" in server.log()
