"""The ``broker`` command in this process, or as one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result

from adapters.cli import main
from tests.serving import PATIENCE_S, free_port, wait_until

__all__ = ("ROOT", "Running", "environment", "invoke", "last_line", "run", "serving")

ROOT = Path(__file__).parents[2]


def invoke(*arguments: str, stdin: str | bytes = "", **variables: str) -> Result:
    """Run the command here; only what does not serve may be run so."""
    return CliRunner().invoke(main, arguments, input=stdin, env=variables)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "adapters.cli", *arguments]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, which is expected to end by itself."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(**variables),
        check=False,
    )


class Running:
    """The command, serving from this folder."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Any) -> None:
        self.process = process
        self.port = port
        self._log = log

    def log(self) -> str:
        self._log.seek(0)
        return str(self._log.read().decode())

    def get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return str(response.read().decode())

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """Return the status, and the answer from JSON; None if there is no body."""
        url = f"http://127.0.0.1:{self.port}{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        response = httpx.post(url, json=body, headers=names, timeout=PATIENCE_S)
        is_json = response.headers.get("content-type") == "application/json"
        return response.status_code, response.json() if is_json else None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(*arguments: str, workers: int = 1, **variables: str) -> Iterator[Running]:
    """Serve on a free port; wait until all workers do."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command("serve", *arguments, "--bind", f"127.0.0.1:{port}"),
            env=environment(BROKER_SERVER_DRAIN_S="5", **variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        running = Running(process, port, log)

        def is_up() -> bool:
            assert process.poll() is None, running.log()
            return running.log().count("Running on") == workers

        try:
            wait_until(is_up)
            yield running
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def last_line(result: Result | subprocess.CompletedProcess[str]) -> str:
    """Return the problem; all that stands before it is click's usage."""
    *before, last = result.stderr.splitlines()
    assert not before or before[0].startswith("Usage: ")
    assert "Traceback" not in result.stderr
    return last
