"""A primary, a replica of it, and a sentinel that watches both."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.serving import wait_until

from .servers import RedisServer

__all__ = ("NAME", "Sentinel", "Watched")

NAME = "mymaster"
DOWN_AFTER_MS = 300  # how long a primary is silent before a sentinel holds it for dead


class Sentinel(RedisServer):
    """One sentinel; it writes what it knows into its configuration.

    Args:
        folder: for its files.
        port: of the primary that it watches at first. It promotes on its own.
        password: that clients must give; None for no password.
    """

    def __init__(self, folder: Path, *, port: int, password: str | None = None) -> None:
        super().__init__(folder, password=password)
        self._file = folder / f"sentinel-{self.port}.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {port} 1",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 3000",
        ]
        if password is not None:
            lines += [f"requirepass {password}"]
        self._file.write_text("\n".join([*lines, ""]))

    def _command(self) -> list[str]:
        return ["redis-server", str(self._file), "--sentinel"]

    def could_promote(self) -> bool:
        """Return whether it knows a replica that has all that the primary has."""
        return "link-status\nok" in self.command("SENTINEL", "REPLICAS", NAME)

    def names(self, server: RedisServer) -> bool:
        """Return whether it holds a server for the primary."""
        said = self.command("SENTINEL", "MASTER", NAME).splitlines()
        return f"port {server.port}" in map(" ".join, pairwise(said))


class Watched:
    """All three; a context manager.

    Args:
        folder: for their files.
        password: of the sentinel; None for none.

    Attributes:
        primary: at first.
        replica: at first.
        sentinel: what watches them.
        host: and port, of the sentinel.
        url: of the same.
    """

    def __init__(self, folder: Path, *, password: str | None = None) -> None:
        self.primary = RedisServer(folder)
        self.replica = RedisServer(folder, replica_of=self.primary.port)
        self.sentinel = Sentinel(folder, port=self.primary.port, password=password)
        self.host = f"127.0.0.1:{self.sentinel.port}"
        self.url = f"redis-sentinel://{self.host}/{NAME}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for each in (self.primary, self.replica, self.sentinel):
                stack.enter_context(each)
            wait_until(self.sentinel.could_promote)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
