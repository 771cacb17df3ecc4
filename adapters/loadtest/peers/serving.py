"""Starts a peer's server on a free port, and ends all of it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

import msgspec

from .catalogue import SERVERS, Peer
from .installing import Home

__all__ = ("NotServing", "Serving", "confined", "serve", "share_cores")

START_S = 30.0  # guess: Django on a busy machine takes 2
STOP_S = 5.0  # guess; its clients have gone by then
POLL_S = 0.02
PORTS = (20_000, 32_000)  # below those that the system gives to connections


class NotServing(Exception):
    """A server did not start, or has ended; the text has what it said last."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """A server that runs.

    Attributes:
        url: of its WebSocket endpoint.
        pid: of the process that was started; others may be its children.
    """

    url: str
    pid: int


def share_cores() -> tuple[frozenset[int], frozenset[int]]:
    """Return the cores for a server, one, and those for who loads it.

    Both are the same where there is one core only, and empty where the system pins
    nothing.
    """
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(), frozenset()
    *others, last = sorted(os.sched_getaffinity(0))
    return frozenset({last}), frozenset(others or {last})


@contextmanager
def confined(cores: frozenset[int]) -> Generator[None, None, None]:
    """Keep this thread, and processes that it starts, to some cores.

    No set of cores, or a system that pins nothing: it changes nothing.
    """
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serve(
    peer: Peer, home: Home, cores: frozenset[int] = frozenset()
) -> Generator[Serving, None, None]:
    """Run a peer's server for as long as the block runs.

    It is in a folder of its own, which is empty and goes with it, so that no file of
    settings is found by chance.

    Args:
        cores: that it is kept to.

    Raises:
        NotServing: it has ended, or does not listen after half a minute. No process
            of it is left.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        with confined(cores):
            process = subprocess.Popen(
                [home.fill(word, port) for word in peer.command],
                cwd=folder,
                env=_environment(peer, home, port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # with its children in one group
            )
        try:
            deadline = time.monotonic() + START_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise NotServing(_complaint(log.read().decode(errors="replace")))
                time.sleep(POLL_S)
            yield Serving(url=f"ws://127.0.0.1:{port}{peer.path}", pid=process.pid)
        finally:
            _stop(process)


def _environment(peer: Peer, home: Home, port: int) -> dict[str, str]:
    # Settings of a broker are not for this one, nor Python's for another Python.
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BROKER_", "PYTHON"))
    }
    variables["PYTHONPATH"] = str(SERVERS)
    variables["NODE_PATH"] = home.modules
    return variables | {name: home.fill(word, port) for name, word in peer.variables}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):  # which is what should happen
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _complaint(output: str) -> str:
    """Return the line that says most: Node.js ends with its version."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return [*lines, *errors][-1][:300] if lines else "it said nothing"
