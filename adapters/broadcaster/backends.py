"""What is passed as ``Broadcast(backend=…)``: one's own, or the ones by name."""

from __future__ import annotations

from typing import Any

from .event import Event
from .urls import UnsupportedBackend, backplane_for

__all__ = (
    "BackplaneBackend",
    "BroadcastBackend",
    "KafkaBackend",
    "MemoryBackend",
    "PostgresBackend",
    "RedisBackend",
    "RedisStreamBackend",
)


class BroadcastBackend:
    """What a backend of your own has; inherit from it or not.

    One task calls ``next_published``; besides that one call runs at a time, so a single
    connection will do. ``subscribe`` is called once for a channel however many
    subscribers it has, and nobody is told to be subscribed before it has returned.
    What any method raises reaches those who wait for it, and what ``next_published``
    raises reaches every subscriber.
    """

    def __init__(self, url: str) -> None:
        raise NotImplementedError

    async def connect(self) -> None:
        """Open the connection; called before all others, and again after an end."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Close it; may take 5 s, and must not need ``next_published`` to run."""
        raise NotImplementedError

    async def subscribe(self, channel: str) -> None:
        """Bring what is published on a channel from now on."""
        raise NotImplementedError

    async def unsubscribe(self, channel: str) -> None:
        """Bring no more of it."""
        raise NotImplementedError

    async def publish(self, channel: str, message: Any) -> None:
        """Hand a message to all processes."""
        raise NotImplementedError

    async def next_published(self) -> Event:
        """Wait for the next event of any channel."""
        raise NotImplementedError


class BackplaneBackend(BroadcastBackend):
    """A backplane under the name that broadcaster has for it; none to inherit from.

    Raises:
        UnsupportedBackend: there is none for the URL.
    """

    def __init__(self, url: str) -> None:
        self.backplane = backplane_for(url)


class MemoryBackend(BackplaneBackend):
    """``memory://``: within one process."""


class PostgresBackend(BackplaneBackend):
    """``postgres://``, ``postgresql://``; its tables are made by ``broker migrate``."""


class RedisStreamBackend(BackplaneBackend):
    """``redis-stream://``: the same as ``RedisBackend``."""


class RedisBackend(BackplaneBackend):
    """``redis://``, ``rediss://``.

    Raises:
        AssertionError: neither ``url`` nor ``conn``, as there.
        UnsupportedBackend: only ``conn``: a connection made elsewhere is not used.
    """

    def __init__(self, url: str | None = None, *, conn: Any = None) -> None:
        if url is None:
            if conn is None:
                # Not an assert statement: users catch it under -O as well.
                raise AssertionError("conn must be provided if url is not")
            raise UnsupportedBackend("redis", "conn is not used: pass a URL")
        super().__init__(url)


class KafkaBackend(BackplaneBackend):
    """``kafka://``: there is none; write a backend of your own."""

    def __init__(self, urls: str | list[str]) -> None:
        super().__init__(urls if isinstance(urls, str) else urls[0])
