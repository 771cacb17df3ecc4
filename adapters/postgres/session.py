"""One connection to PostgreSQL, used by one worker thread at a time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.to_thread
import psycopg
from psycopg import errors

from adapters.backplane.uplink import reason_of
from broker.errors import BackplaneError

from .address import Address

__all__ = ("Connection", "Session")

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Answer = TypeVar("Answer")

# The connection is well, but leads to a server that will not do: a primary no longer,
# or without our schema.
_MISLED = (
    errors.InvalidSchemaName,
    errors.ReadOnlySqlTransaction,
    errors.UndefinedFunction,
    errors.UndefinedTable,
)


class Session:
    """A connection whose blocking calls run in a worker thread, with a deadline.

    A thread cannot be cancelled, but its socket can be shut down: then it comes back
    at once, and closes the connection itself. Only one task may use it.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._limiter = anyio.CapacityLimiter(1)  # a thread of its own
        self._guard = threading.Lock()  # of what is below; held for an instant
        self._connection: Connection | None = None
        # A second handle of the socket, because libpq may close its own at any time,
        # and the number would then be somebody else's.
        self._socket: socket.socket | None = None
        self._is_busy = False
        self._is_closed = False

    @property
    def is_usable(self) -> bool:
        """Whether another call may succeed."""
        return (
            not self._is_closed
            and self._connection is not None
            and not self._connection.closed
        )

    async def run(
        self,
        work: Callable[[Connection], Answer],
        *,
        within_s: float,
    ) -> Answer:
        """Call ``work`` with the connection, which the first call makes.

        Raises:
            BackplaneError: it failed, or took longer than ``within_s``; whether it was
                done is not known.

        Cancellation: the same; close the session then.
        """
        call = partial(self._work, work)
        try:
            with anyio.fail_after(within_s):
                return await anyio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=self._limiter
                )
        except TimeoutError as error:
            self.close()
            raise BackplaneError(f"no answer within {within_s:g} s") from error
        except psycopg.Error as error:
            if isinstance(error, _MISLED):
                self.close()
            raise BackplaneError(reason_of(error)) from error

    def close(self) -> None:
        """Close it, and have the thread that uses it come back. Idempotent."""
        with self._guard:
            self._is_closed = True
            if not self._is_busy:
                self._release()
            elif self._socket is not None:
                with suppress(OSError):  # the server has closed it
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _work(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run in the thread."""
        with self._guard:
            if self._is_closed:
                raise psycopg.OperationalError("the connection is closed")
            self._is_busy = True
        try:
            if self._connection is None:
                self._connect()
            assert self._connection is not None
            return work(self._connection)
        finally:
            with self._guard:
                self._is_busy = False
                if self._is_closed:
                    self._release()

    def _connect(self) -> None:
        made = self._address.connect()
        second = socket.socket(fileno=os.dup(made.fileno()))
        with self._guard:
            self._connection, self._socket = made, second
            if self._is_closed:  # meanwhile: nobody waits for what would follow
                raise psycopg.OperationalError("the connection is closed")

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._socket is not None:
            self._socket.close()
