"""A private PostgreSQL for the tests: on loopback, stopped by pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import psycopg

from adapters.postgres.address import Address
from adapters.postgres.schema import migrate
from tests.serving import free_port, wait_until

from .servers import PATIENCE_S, Engine

__all__ = ("POSTGRES", "PostgresServer")

# Only those who trust each other are on loopback, but for one role.
HBA = """
local all all trust
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
ROOM_BYTES = 536_870_912


def _find() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian has them outside of PATH."""
    places = [Path(each) for each in os.get_exec_path()]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    return None


POSTGRES = _find()


def _memory() -> Path | None:
    """Return a folder in memory, if there is room: disks are slow, and shared."""
    folder = Path("/dev/shm")
    if folder.is_dir() and shutil.disk_usage(folder).free > ROOM_BYTES:
        return folder
    return None


class PostgresServer(Engine):
    """One cluster of databases. What is committed is on disk.

    Args:
        certificate: with it, TLS is spoken too; its key is in the same file.

    Attributes:
        port: on the loopback address.
        url: of its database, as a superuser.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        assert POSTGRES is not None
        self._programs = POSTGRES
        self.port = free_port()
        self.url = self.url_by(self.port)
        # Not a folder of pytest's, which other users cannot enter.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=_memory()))
        self._as: dict[str, str | int | list[int]] = {}
        if os.getuid() == 0:  # which PostgreSQL refuses
            names = {each.pw_name: each for each in pwd.getpwall()}
            user = names.get("postgres") or names["nobody"]
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._data = self._folder / "data"
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-N")
        self._write("pg_hba.conf", HBA)
        self._options: list[str] = []
        if certificate is not None:
            self._write("server.pem", certificate.read_text())
            for option in ("ssl=on", "ssl_cert_file=server.pem"):
                self._options += ["-c", option]
            self._options += ["-c", "ssl_key_file=server.pem"]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self._folder)

    @staticmethod
    def url_by(port: int) -> str:
        """Return the URL of its database, by way of another port."""
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def schema(self) -> str:
        """Make a schema of one test's own, and return its name."""
        name = f"s{uuid4().hex}"
        migrate(Address(url=self.url, schema=name, timeout_s=PATIENCE_S))
        return name

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements, each a transaction; return the last one's rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            *before, last = statements
            for statement in before:
                connection.execute(statement.encode())
            cursor = connection.execute(last.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End all of its processes without warning."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        self._process = None

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def unpause(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Signal all processes, the parent first, so that it starts no more."""
        assert self._process is not None
        parent = self._process.pid
        os.kill(parent, number)
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = file.read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    os.kill(int(file.parent.name), number)
            except (OSError, IndexError):
                pass  # it has just ended

    def _command(self) -> list[str]:
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        command += ["-p", str(self.port), "-k", str(self._folder)]
        for option in (
            "listen_addresses=127.0.0.1",
            "shared_buffers=16MB",
            "max_connections=60",
            "max_wal_size=64MB",
            "log_min_messages=fatal",
        ):
            command += ["-c", option]
        return [*command, *self._options]

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                **self._as,  # type: ignore[call-overload] # its own options
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text())
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, **self._as)  # type: ignore[call-overload] # its own options

    def _write(self, name: str, text: str) -> None:
        file = self._data / name
        file.write_text(text)
        file.chmod(0o600)
        if self._as:
            os.chown(file, self._as["user"], self._as["group"])  # type: ignore[arg-type] # numbers
