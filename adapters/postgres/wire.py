"""One life of a node's three connections to PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from anyio.abc import TaskGroup

from broker.backplane import Published

from .address import Address
from .desk import Desk
from .schema import check_version
from .session import Connection, Session
from .statements import Item, Log, Statements

__all__ = ("Timing", "Wire", "open_wire")

# A batch is one transaction, which holds up all others that publish (guesses).
BATCH = 200
BATCH_BYTES = 4_194_304

Answer = TypeVar("Answer")
Call: TypeAlias = Callable[[Connection], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things may take (s, > 0); see ``PostgresBackplane``."""

    timeout_s: float
    heartbeat_s: float
    remember_s: float


class Wire:
    """A connection that publishes, one that listens, and one for everything else.

    History and presence so never wait behind publications.

    Attributes:
        publishing: takes what is to be published.
        timeout_s: longest wait for an answer (s, > 0).
    """

    def __init__(
        self, address: Address, statements: Statements, timing: Timing
    ) -> None:
        self.timeout_s = timing.timeout_s
        publish = partial(statements.publish, remember_s=timing.remember_s)
        self.publishing: Desk[Item, Published] = Desk(
            publish, max_count=BATCH, max_bytes=BATCH_BYTES
        )
        self._calls: Desk[Call, Any] = Desk(_call)
        self._beat_s = timing.heartbeat_s
        self._statements = statements
        self._address = address
        self._listener, self._publisher, self._caller = self._sessions = tuple(
            Session(address) for _ in range(3)
        )

    async def ask(self, call: Callable[[Connection], Answer]) -> Answer:
        """Call with the third connection, in its thread; see ``Desk.ask``."""
        answer: Answer = await self._calls.ask(call)
        return answer

    async def read_log(self, after: int, names: list[str] | None, wait_s: float) -> Log:
        """Wait for something in the log; see ``Statements.read_log``. One at once."""
        read = self._statements.read_log
        return await self._listener.run(
            lambda connection: read(connection, after, names, wait_s),
            within_s=wait_s + self.timeout_s,
        )

    async def open(self) -> None:
        """Connect.

        Raises:
            BackplaneError: it could not be done, or the schema is of another version.
        """
        # A session's first call connects: to each of several addresses in turn.
        within_s = 4 * max(2.0, self.timeout_s)
        check = partial(check_version, address=self._address)
        await self._caller.run(check, within_s=within_s)
        await self._listener.run(self._statements.listen, within_s=within_s)
        await self._publisher.run(_ping, within_s=within_s)

    def serve(self, tasks: TaskGroup) -> None:
        """Start what does the calls; it raises when a connection fails."""
        for desk, session, name in (
            (self.publishing, self._publisher, "broker: postgres publisher"),
            (self._calls, self._caller, "broker: postgres calls"),
        ):
            serve = partial(
                desk.serve, session, beat_s=self._beat_s, timeout_s=self.timeout_s
            )
            tasks.start_soon(serve, name=name)

    def close(self) -> None:
        """Close the connections, and fail what waits. Idempotent; never blocks."""
        for session in self._sessions:
            session.close()
        for desk in (self.publishing, self._calls):
            desk.close("the link was closed")


@asynccontextmanager
async def open_wire(
    address: Address, statements: Statements, timing: Timing
) -> AsyncGenerator[Wire, None]:
    """Connect, and be connected while the block runs.

    Raises:
        BackplaneError: it could not be done.
    """
    wire = Wire(address, statements, timing)
    try:
        await wire.open()
        yield wire
    finally:
        wire.close()


def _call(calls: list[Call], connection: Connection) -> list[Any]:
    if not calls:
        _ping(connection)
    return [call(connection) for call in calls]


def _ping(connection: Connection) -> None:
    connection.execute("SELECT 1")
