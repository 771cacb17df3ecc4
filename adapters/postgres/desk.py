"""Where callers wait for the one task that uses a connection."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from broker.errors import BackplaneError

from .session import Connection, Session

__all__ = ("MAX_WAITING", "MAX_WAITING_BYTES", "Desk")

# What waits for one connection; beyond it, calls fail at once (guesses).
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 67_108_864
PATIENCE_S = 10.0  # longest wait for one's turn (guess)

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Ticket(Generic[Request, Answer]):
    """One request, and what has become of it."""

    __slots__ = ("answer", "done", "error", "request", "size_bytes")

    def __init__(self, request: Request, size_bytes: int) -> None:
        self.request = request
        self.size_bytes = size_bytes
        self.done = anyio.Event()
        self.answer: Answer | None = None
        self.error: str | None = None


class Desk(Generic[Request, Answer]):
    """Takes requests in their order, and has them done in batches.

    Args:
        work: does a batch in the worker thread, and returns as many answers. With an
            empty one it only shows that the server is there.
        max_count: largest batch (> 0).
        max_bytes: the same in bytes; one request is taken whatever its size.
    """

    def __init__(
        self,
        work: Callable[[list[Request], Connection], list[Answer]],
        *,
        max_count: int = 1,
        max_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._work = work
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[_Ticket[Request, Answer], None] = OrderedDict()
        self._waiting_bytes = 0
        self._came = anyio.Event()
        self._problem: str | None = None  # once closed

    async def ask(self, request: Request, size_bytes: int = 0) -> Answer:
        """Have something done, and return the answer.

        Raises:
            BackplaneError: it failed, and may have been done or not; or too many wait,
                or it has waited too long, and it was not done.

        Cancellation: it is not done, or it is done all the same.
        """
        await anyio.lowlevel.checkpoint()
        if self._problem is not None:
            raise BackplaneError(self._problem)
        if (
            len(self._waiting) >= MAX_WAITING
            or self._waiting_bytes + size_bytes > MAX_WAITING_BYTES
        ):
            raise BackplaneError(f"{len(self._waiting)} calls wait for PostgreSQL")
        ticket: _Ticket[Request, Answer] = _Ticket(request, size_bytes)
        self._waiting[ticket] = None
        self._waiting_bytes += size_bytes
        self._came.set()
        try:
            with anyio.move_on_after(PATIENCE_S):
                await ticket.done.wait()
            if not self._withdraw(ticket):
                await ticket.done.wait()  # it is being done, which has a deadline
        except BaseException:
            self._withdraw(ticket)
            raise
        if not ticket.done.is_set():
            raise BackplaneError(f"no turn within {PATIENCE_S:g} s")
        if ticket.error is not None:
            raise BackplaneError(ticket.error)
        return ticket.answer  # type: ignore[return-value] # set before done

    async def serve(self, session: Session, *, beat_s: float, timeout_s: float) -> None:
        """Do what is asked for, until the connection fails: it always raises.

        Args:
            beat_s: after so long without a request the server is asked for a sign of
                life (s, > 0).
            timeout_s: longest wait for an answer (s, > 0).

        Raises:
            BackplaneError: the connection has failed.

        Cancellation: who waits is told that the link is down.
        """
        batch: list[_Ticket[Request, Answer]] = []
        try:
            while True:
                with anyio.move_on_after(beat_s):
                    await self._wait()
                batch = self._take()
                try:
                    work = partial(self._work, [each.request for each in batch])
                    answers = await session.run(work, within_s=timeout_s)
                except BackplaneError as error:
                    self._fail(batch, str(error))
                    if not session.is_usable:
                        raise
                else:
                    for ticket, answer in zip(batch, answers, strict=True):
                        ticket.answer = answer
                        ticket.done.set()
        except BackplaneError as error:
            self.close(str(error))
            raise
        finally:
            self._fail(batch, "the link was closed")
            self.close("the link was closed")

    def close(self, problem: str) -> None:
        """Fail who waits, and who comes. Idempotent."""
        self._problem = self._problem or problem
        self._fail(list(self._waiting), problem)
        self._waiting.clear()
        self._waiting_bytes = 0

    async def _wait(self) -> None:
        while not self._waiting:
            self._came = anyio.Event()
            await self._came.wait()

    def _take(self) -> list[_Ticket[Request, Answer]]:
        batch: list[_Ticket[Request, Answer]] = []
        size = 0
        while self._waiting and len(batch) < self._max_count:
            ticket = next(iter(self._waiting))
            size += ticket.size_bytes
            if batch and size > self._max_bytes:
                break
            self._withdraw(ticket)
            batch.append(ticket)
        return batch

    def _withdraw(self, ticket: _Ticket[Request, Answer]) -> bool:
        """Take it back. Returns False if it is being done, or was."""
        if ticket not in self._waiting:
            return False
        del self._waiting[ticket]
        self._waiting_bytes -= ticket.size_bytes
        return True

    def _fail(self, tickets: list[_Ticket[Request, Answer]], problem: str) -> None:
        for ticket in tickets:
            if not ticket.done.is_set():
                ticket.error = problem
                ticket.done.set()
