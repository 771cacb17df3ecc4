"""A real hypercorn process that runs the standalone server, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ("Server", "wait_until")

ROOT = Path(__file__).parents[2]
START_S = 30.0  # two cores, and three interpreters to start
STOP_S = 15.0  # hypercorn's graceful timeout and the broker's farewell, twice
POLL_S = 0.02


class Server:
    """One server; a context manager. It may be stopped and started on the same port.

    Args:
        worker_class: "asyncio", "uvloop" or "trio".
        log: where it writes what it has to say.

    Attributes:
        url: of the server, with a slash at its end.
    """

    def __init__(self, worker_class: str, log: Path) -> None:
        self.worker_class = worker_class
        self.log = log
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and return when it is ready."""
        command = [sys.executable, "-m", "hypercorn", "--graceful-timeout", "1"]
        command += ["--bind", f"127.0.0.1:{self.port}"]
        command += ["--worker-class", self.worker_class, "adapters.app:app"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its worker is a child: of one group, so that neither outlives us.
                start_new_session=True,
            )
        try:
            wait_until(self._is_ready, START_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and return when it has gone; does nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            with suppress(ProcessLookupError):  # which is what should happen
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def readiness(self) -> dict[str, Any]:
        """Return what /readyz says; empty if nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}readyz", timeout=5) as answer:
                body: dict[str, Any] = json.load(answer)
                return body
        except urllib.error.HTTPError as error:
            error.close()
            return {}
        except OSError:
            return {}

    def wait_empty(self) -> None:
        """Wait until the server has noticed that everyone has left."""
        wait_until(lambda: self.readiness().get("sessions") == 0, START_S)

    def tracebacks(self) -> str:
        """Return its log if it holds a traceback."""
        text = self.log.read_text(errors="replace")
        return text if "Traceback" in text else ""

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the server has ended:\n{self.log.read_text()}")
        return self.readiness().get("status") == "ready"


def wait_until(condition: Callable[[], bool], within_s: float) -> None:
    """Poll until the condition holds.

    Raises:
        TimeoutError: it still does not after ``within_s`` (s).
    """
    deadline = time.monotonic() + within_s  # a real process, a real clock
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {condition}")
        time.sleep(POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
