"""What has come for an application, until it asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol

__all__ = ("Bell", "Mailbox")


class Bell(Protocol):
    """What one task waits for once; ``trio.Event`` is one."""

    def set(self) -> None:
        """Wake the task, now or when it waits. Idempotent."""
        ...

    def wait(self) -> Awaitable[Any]:
        """Wait until it is set. Cancelling it harms nobody else."""
        ...


class Mailbox:
    """ASGI's ``receive``, and how the server fills it.

    In place of the loops' own queues, which take 2 to 3 KiB for each connection, and in
    which the server waits for room that an application makes no more.

    Cancelling a call loses nothing: a message is here until it is returned.

    Args:
        size: messages that wait at most (> 0).
        make_bell: makes what a task waits for.
    """

    __slots__ = ("_is_closed", "_make_bell", "_messages", "_size", "_waiting")

    loses_nothing: ClassVar = True  # see broker.Transport

    def __init__(self, size: int, make_bell: Callable[[], Bell]) -> None:
        self._size = size
        self._make_bell = make_bell
        self._messages: list[Any] = []  # an empty deque takes 0.7 KiB more
        self._waiting: list[Bell] = []  # for a message, or else for room
        self._is_closed = False

    async def __call__(self) -> Any:
        """Return the next message, once there is one."""
        while not self._messages:
            bell = self._hang_up()
            try:  # not a method: a coroutine for each idle client
                await bell.wait()
            finally:
                self._waiting.remove(bell)
        message = self._messages.pop(0)
        self._ring()
        return message

    async def put(self, message: Any) -> None:
        """Add a message; waits while there is no room, and drops it once closed.

        What one task puts stays in order.
        """
        if message["type"] == "http.disconnect":
            # The application's own task says so, after its response: it would wait for
            # itself.
            self._messages.clear()
        while len(self._messages) >= self._size and not self._is_closed:
            bell = self._hang_up()
            try:
                await bell.wait()
            finally:
                self._waiting.remove(bell)
        if not self._is_closed:
            self._messages.append(message)
            self._ring()

    def close(self) -> None:
        """Let go of everything: the application has finished, and asks no more."""
        self._is_closed = True
        self._messages.clear()
        self._ring()

    def _hang_up(self) -> Bell:
        bell = self._make_bell()
        self._waiting.append(bell)
        return bell

    def _ring(self) -> None:
        for bell in self._waiting:
            bell.set()
