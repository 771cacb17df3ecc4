"""What a node asks of its connections, to one server or to all of a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any, Protocol

from .scripts import Script

__all__ = ("Answer", "Push", "Wire")

# Whether a pattern brought it, its channel, its data.
Push = tuple[bool, bytes, bytes]


class Answer(Protocol):
    """A script that has been asked for."""

    async def result(self) -> Any:
        """Return the script's answer.

        Raises:
            BackplaneError: there is none, or it is an error. Whether the script has
                run is not known.
        """
        ...


class Wire(Protocol):
    """One life of a node's connections: when one of them fails, all are made anew.

    Every method raises ``BackplaneError`` when they have failed.
    """

    def place(self, key: str) -> int:
        """Return where a key is. One script can only see keys of one place."""
        ...

    def start(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Answer:
        """Ask for a script to be run, without waiting for it."""
        ...

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Iterable[Any]
    ) -> Any:
        """Run a script and return its answer; raises as ``Answer.result``."""
        ...

    def tell(self, command: bytes, names: Sequence[str]) -> None:
        """Send (P)SUBSCRIBE or (P)UNSUBSCRIBE; ``pass_fence`` waits for it."""
        ...

    def heed(self, callback: Callable[[str], None]) -> None:
        """Have it called with each channel whose pushes may have been missed.

        The channel has been subscribed anew; ``pass_fence`` waits for it.
        """
        ...

    async def pass_fence(self) -> None:
        """Wait until all that has been pushed before now has been handled.

        It is the heartbeat as well: it goes all the way.
        """
        ...

    async def ping(self) -> None:
        """Check the connections for commands."""
        ...

    async def publish(self, channel: str, data: bytes) -> None:
        """Push something that nobody keeps. If it fails, it may have been pushed."""
        ...

    def sources(self) -> list[AsyncGenerator[list[Push], None]]:
        """Return what is pushed, in order from each source; each ends with an error.

        What has come together is yielded together, so that it wakes subscribers once.

        Read each with ``aclosing``, and once only.
        """
        ...
