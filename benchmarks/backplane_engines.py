"""Private engines for the benchmark of backplanes: on loopback, stopped by pid."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker import BackplaneError

__all__ = ("ENGINES", "Engine", "cpu_s", "engine")

START_S = 30.0  # longest wait for an engine to answer; guess
POLL_S = 0.02
# Debian keeps PostgreSQL's programs out of PATH, and pip installs beside Python.
PLACES = (
    *(Path(each) for each in os.get_exec_path()),
    Path(sys.executable).parent,
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
)


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine that runs.

    Attributes:
        url: for a broker.
        version: what it says of itself.
        pid: of its first process; 0 for none.
    """

    url: str
    version: str
    pid: int


def cpu_s(pid: int) -> float:
    """Return what a process and its children have taken (s); nan where unknown."""
    if not Path("/proc/self/schedstat").exists():
        return float("nan")
    pids = [pid]
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                pids.append(int(file.parent.name))
    taken = 0
    for each in pids:
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with suppress(OSError):
                taken += int(task.read_text(encoding="ascii").split()[0])
    return taken / 1e9


@contextmanager
def memory() -> Generator[Engine, None, None]:
    """No engine: one process."""
    yield Engine("memory://", "", 0)


@contextmanager
def redis() -> Generator[Engine, None, None]:
    """Without persistence, as a cache is run."""
    program, port = _find("redis-server"), _free_port()
    with _folder() as (folder, _):
        command = [program, "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        with _running(command, lambda: _says(port, b"PING\r\n", b"PONG")) as pid:
            yield Engine(f"redis://127.0.0.1:{port}/0", _version(program), pid)


@contextmanager
def postgresql() -> Generator[Engine, None, None]:
    """With its own defaults, and so with fsync."""
    from adapters.postgres.address import Address
    from adapters.postgres.schema import migrate

    program, port = _find("postgres"), _free_port()
    with _folder() as (folder, identity):
        data = folder / "data"
        initdb = [_find("initdb"), "-D", str(data), "-U", "postgres"]
        initdb += ["-A", "trust", "-N"]  # what is on disk now need not survive
        subprocess.run(initdb, check=True, capture_output=True, **identity)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

        def answers() -> bool:
            try:
                migrate(Address(url=url, schema="broker", timeout_s=START_S))
            except BackplaneError:
                return False
            return True

        command = [program, "-D", str(data), "-p", str(port), "-k", str(folder)]
        with _running(command, answers, **identity) as pid:
            yield Engine(url, _version(program), pid)


@contextmanager
def nats() -> Generator[Engine, None, None]:
    """With JetStream, on disk."""
    program, port = _find("nats-server"), _free_port()
    with _folder() as (folder, _):
        command = [program, "-a", "127.0.0.1", "-p", str(port), "-js"]
        command += ["-sd", str(folder)]
        with _running(command, lambda: _says(port, b"", b"INFO")) as pid:
            yield Engine(f"nats://127.0.0.1:{port}", _version(program), pid)


ENGINES = {"memory": memory, "redis": redis, "postgresql": postgresql, "nats": nats}
PROGRAMS = {"redis": "redis-server", "postgresql": "initdb", "nats": "nats-server"}


@contextmanager
def engine(scheme: str) -> Generator[Engine | None, None, None]:
    """Run an engine while the block runs; None if it is not installed."""
    if scheme in PROGRAMS and not _find(PROGRAMS[scheme]):
        yield None
        return
    with ENGINES[scheme]() as running:
        yield running


def _find(program: str) -> str:
    for place in PLACES:
        # Debian's /usr/bin has wrappers for PostgreSQL's clients, but not for these.
        if found := shutil.which(program, path=str(place)):
            return found
    return ""


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, check=True)
    number = re.search(rb"\d+(\.\d+)+", said.stdout)
    return f"{Path(program).name} {number[0].decode() if number else 'unknown'}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _says(port: int, question: bytes, answer: bytes) -> bool:
    """Return whether a server on loopback answers as it should."""
    try:
        with socket.create_connection(("127.0.0.1", port), START_S) as connection:
            connection.sendall(question)
            return answer in connection.recv(4_096)
    except OSError:
        return False


@contextmanager
def _folder() -> Generator[tuple[Path, dict[str, Any]], None, None]:
    """Make a folder, and say as whom to run what refuses to be root."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    identity: dict[str, Any] = {}
    try:
        if os.getuid() == 0:
            names = {each.pw_name: each for each in pwd.getpwall()}
            user = names.get("postgres") or names["nobody"]
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder, identity
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    command: list[str], answers: Callable[[], bool], **identity: Any
) -> Generator[int, None, None]:
    """Run a server while the block runs; yields its pid once it answers."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity
    )
    try:
        deadline = time.monotonic() + START_S
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer")
            time.sleep(POLL_S)
        yield process.pid
    finally:
        process.send_signal(signal.SIGQUIT)  # PostgreSQL: its children with it
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
