"""Real engines for the tests: private servers on loopback, stopped by pid."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.serving import free_port, wait_until

__all__ = ("HAS_REDIS", "HAS_VALKEY", "Engine", "RedisServer")

HAS_REDIS = shutil.which("redis-server") is not None
HAS_VALKEY = HAS_REDIS and shutil.which("valkey-server") is not None
PATIENCE_S = 30.0


class Engine:
    """One server process; a context manager. It may be killed and started again."""

    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process = None

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks: its connections stay open and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class RedisServer(Engine):
    """One redis-server.

    Args:
        folder: for its files.
        persists: it writes and syncs each change before it answers.
        password: that clients must give; None for no password.
        certificate: with it, only TLS is spoken; its key is in the same file.
        replica_of: port of a primary on the loopback address; None for none.
        program: what to start, such as Valkey's.

    Attributes:
        port: on the loopback address.
        url: of its database 0.
    """

    def __init__(
        self,
        folder: Path,
        *,
        persists: bool = False,
        password: str | None = None,
        certificate: Path | None = None,
        replica_of: int | None = None,
        program: str = "redis-server",
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = program
        self._certificate = certificate
        self._password = password
        self._folder = folder
        self._options = ["--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        if persists:
            self._options = ["--appendonly", "yes", "--appendfsync", "always"]
        if password is not None:
            self._options += ["--requirepass", password]
        if replica_of is not None:
            self._options += ["--replicaof", "127.0.0.1", str(replica_of)]

    def _command(self) -> list[str]:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1"]
        if self._certificate is not None:
            file = str(self._certificate)
            command += ["--port", "0", "--tls-port", str(self.port)]
            command += ["--tls-cert-file", file, "--tls-key-file", file]
            command += ["--tls-ca-cert-file", file, "--tls-auth-clients", "no"]
        return [*command, "--save", "", "--dir", str(self._folder), *self._options]

    def command(self, *words: str) -> str:
        """Run one command as a client of its own, and return what it says."""
        command = ["redis-cli", "-p", str(self.port)]
        if self._password is not None:
            command += ["--no-auth-warning", "-a", self._password]
        if self._certificate is not None:
            command += ["--tls", "--cacert", str(self._certificate)]
        run = subprocess.run(
            [*command, *words],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=PATIENCE_S,
        )
        return run.stdout.strip()

    def _answers(self) -> bool:
        return self.command("PING") == "PONG"
