"""The backplane that a setting names: made, and reached before anything is served."""

from __future__ import annotations

from broker import Backplane, Limits, MemoryBackplane
from broker.message import Message, Position
from broker.schemes import backplane_for

from .settings import ServerSettings

__all__ = ("joins_processes", "make_backplane", "reach")


def make_backplane(server: ServerSettings) -> Backplane:
    """Return the backplane that the settings name; nothing is connected yet.

    Raises:
        UsageError, ModuleNotFoundError: as ``backplane_for``; ``load_settings`` has
            found that out before.
    """
    if server.backplane is None:
        return MemoryBackplane()
    wait_s = server.wait_for_backplane_s
    return backplane_for(server.backplane.text, connect_s=wait_s)


def joins_processes(backplane: Backplane) -> bool:
    """Whether it reaches beyond this process."""
    return not isinstance(backplane, MemoryBackplane)


async def reach(backplane: Backplane) -> None:
    """Connect, and let go of it at once.

    Raises:
        BackplaneError: it is not there, or does not let us in.
    """
    async with backplane.connect(_Nobody(), Limits()):
        pass


class _Nobody:
    """A node that wants nothing."""

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        """See ``Node``."""

    def skip(self, topic: str, position: Position) -> None:
        """See ``Node``."""

    def down(self, reason: str) -> None:
        """See ``Node``."""

    def hear(self, news: bytes) -> None:
        """See ``Node``."""

    def up(self) -> None:
        """See ``Node``."""
