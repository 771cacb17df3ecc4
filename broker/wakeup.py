"""Waking one waiting task, without ever losing a wake-up."""

from __future__ import annotations

from typing import Protocol

import anyio

__all__ = ("Alarm", "Wakeup")


_NOT_NEEDED = (
    anyio.WouldBlock,  # one wake-up that waits is enough for all
    anyio.EndOfStream,
    anyio.ClosedResourceError,
)


class Alarm(Protocol):
    """What a publisher sees of whoever takes messages out.

    Attributes:
        armed: only then is ``notify`` needed; checking it first saves a call on the hot
            path.
    """

    armed: bool

    def notify(self) -> None:
        """Have it look at what waits. Never blocks and never raises."""
        ...

    def close(self) -> None:
        """Wake it for good. Idempotent."""
        ...


class Wakeup:
    """A memory object stream that carries wake-ups, never messages.

    What woke the task waits elsewhere, so a wake-up that is lost with a cancelled
    waiter costs nothing: the next one looks there before it waits.

    The stream runs from the waiter to the one who wakes it: it holds one token, the
    waiter waits until there is room for another, and to wake it is to take the token.
    That is a fifth cheaper than to receive: anyio keeps a record of the task of every
    waiting receiver, and none of waiting senders.

    Attributes:
        armed: the waiter has looked, found nothing and is about to wait.
    """

    __slots__ = ("_receive", "_send", "armed")

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[None](1)
        self._send.send_nowait(None)
        self.armed = False

    def notify(self) -> None:
        """Wake the waiter, now or when it next waits. Never blocks."""
        self.armed = False
        # No contextlib.suppress: this is the hot path.
        try:  # noqa: SIM105
            self._receive.receive_nowait()
        except _NOT_NEEDED:
            pass

    async def wait(self) -> None:
        """Wait for a wake-up; may also return without one, so look again.

        One task may wait at a time. Always a checkpoint. After ``close`` it returns at
        once.
        """
        self.armed = True
        try:
            await self._sleep()
        finally:
            self.armed = False

    async def _sleep(self) -> None:
        # No contextlib.suppress: this is the hot path.
        try:  # noqa: SIM105
            await self._send.send(None)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    def close(self) -> None:
        """Wake the waiter for good. Idempotent."""
        self.armed = False
        self._send.close()
        self._receive.close()
