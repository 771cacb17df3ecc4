"""Topics in which a hole was found, until somebody reads what stood there."""

from __future__ import annotations

import anyio

__all__ = ("Behind",)


class Behind:
    """A set of topics that one task takes up, in the order in which they came."""

    def __init__(self) -> None:
        self._topics: dict[str, None] = {}
        self._came = anyio.Event()

    def add(self, topic: str) -> None:
        """Have it taken up. Never blocks."""
        self._topics[topic] = None
        self._came.set()

    def clear(self) -> None:
        """Forget them: all is read anew."""
        self._topics.clear()

    async def take(self) -> list[str]:
        """Return all of them, as soon as there is one.

        Cancellation: none was taken.
        """
        while not self._topics:
            self._came = anyio.Event()
            await self._came.wait()
        topics, self._topics = self._topics, {}
        return list(topics)
