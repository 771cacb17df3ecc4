"""Real servers, each a process of its own on a free port, stopped by pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

__all__ = ("HOSTS", "PATIENCE_S", "Server", "free_port", "wait_until")

ROOT = Path(__file__).parents[1]
PATIENCE_S = 30.0  # what takes longer is taken for a hang
POLL_S = 0.02

# {name: command}; the application and where to bind are appended. The first three are
# plain hypercorn.
HOSTS = {
    "asyncio": ("hypercorn", "--worker-class", "asyncio"),
    "uvloop": ("hypercorn", "--worker-class", "uvloop"),
    "trio": ("hypercorn", "--worker-class", "trio"),
    "uvicorn": ("uvicorn",),
    "granian": ("granian", "--interface", "asgi", "--no-access-log"),
    "serve-asyncio": ("adapters.cli", "serve", "--loop", "asyncio"),
    "serve-uvloop": ("adapters.cli", "serve", "--loop", "uvloop"),
    "serve-trio": ("adapters.cli", "serve", "--loop", "trio"),
}


class Server:
    """One server process; a context manager. It may be stopped and started again.

    Args:
        app: module and attribute of the ASGI application; empty, with ``broker serve``,
            for the one that comes with it.
        host: a name of ``HOSTS``.
        options: more arguments for the command.
        variables: more for its environment.

    Attributes:
        url: of the server, without a slash at its end.
        may_log_tracebacks: do not fail for them; say why where it is set.
        pid: of the process that was started; hypercorn's worker is its child.
    """

    def __init__(
        self,
        app: str,
        host: str = "asyncio",
        *,
        options: tuple[str, ...] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.app = app
        self.host = host
        self.options = options
        self.variables = variables
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Kept until the server object goes; a restarted server appends.
        # No connection is kept: a server's tasks are counted between requests.
        self._client = httpx.Client(
            timeout=PATIENCE_S, trust_env=False, headers={"connection": "close"}
        )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 # until the server object goes
        self.may_log_tracebacks = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
            if kind is None and not self.may_log_tracebacks:
                assert "Traceback" not in self.log(), self.log()
        finally:
            self._close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers."""
        app = (self.app,) if self.app else ()
        command = [sys.executable, "-m", *HOSTS[self.host], *app, *self.options]
        if self.host in ("uvicorn", "granian"):
            command += ["--host", "127.0.0.1", "--port", str(self.port)]
        else:
            command += ["--bind", f"127.0.0.1:{self.port}"]
        if "hypercorn" in command:
            command += ["--graceful-timeout", "1"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # Its worker is a child: of one group, so that neither outlives us.
            start_new_session=True,
        )
        try:
            wait_until(self._answers)
        except BaseException:
            self.stop()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send the process that was started a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def stop(self) -> int | None:
        """End it and return its exit code; None if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(PATIENCE_S)
        finally:
            with suppress(ProcessLookupError):  # which is what should happen
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def get(self, path: str = "/") -> httpx.Response:
        """Fetch a page."""
        return self._client.get(self.url + path)

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Send a form."""
        return self._client.post(self.url + path, data=fields)

    def connect(self, path: str, **options: Any) -> ClientConnection:
        """Connect a websocket with an independent client; use it in ``with``."""
        options.setdefault("open_timeout", PATIENCE_S)
        options.setdefault("close_timeout", PATIENCE_S)
        url = self.url.replace("http", "ws", 1) + path
        connection: ClientConnection = connect(url, proxy=None, **options)
        return connection

    def log(self) -> str:
        """Return what the server has printed so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _close(self) -> None:
        self._log.close()
        self._client.close()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        try:
            self.get()
        except httpx.TransportError:
            return False
        return True


def wait_until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Poll a real process until the condition holds.

    Raises:
        TimeoutError: it still does not after ``within_s`` (s).
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s")
        time.sleep(POLL_S)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now.

    Below those that the system gives to connections (32768 and up on Linux): one of
    these could have it before the server that it is for, or while that is restarted.
    """
    while True:
        port = random.SystemRandom().randrange(
            20_000, 32_000
        )  # Hypothesis seeds the other
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
