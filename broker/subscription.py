"""One reader's subscription: an async iterator over messages and gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self
from uuid import uuid4

import anyio
import anyio.lowlevel

from .config import Limits, Overflow
from .core import Core
from .errors import SlowConsumer, UsageError
from .message import Item, Position
from .state.checks import check_choice, check_number
from .state.outbox import Outbox
from .subscriber import Subscriber
from .wakeup import Wakeup

__all__ = ("Subscription", "check_options")


class Subscription:
    """Messages of some topics, in order, with every loss told; one task may read it.

    Made by ``Broker.subscribe``. Iterate over it, or call ``receive``; what comes out
    is a ``Message`` or, where messages are missing, a ``Gap``.

    Attributes:
        id: for ``publish(exclude=…)``.
        started: {topic: position after which it gets every message}; patterns have
            none.
        recovered: None if no position was given, else whether all messages after it
            are being delivered. If False, nothing before ``started`` comes.
    """

    def __init__(self, core: Core, outbox: Outbox) -> None:
        self.id = uuid4().hex
        self.started: Mapping[str, Position] = {}
        self.recovered: bool | None = None
        self._core = core
        self._topics: list[str] = []
        self._wakeup = Wakeup()
        self._subscriber = Subscriber(
            self.id, outbox, self._wakeup, core.counters, self.end
        )
        self._reading = anyio.ResourceGuard("reading")  # … "this resource", adds anyio
        self._error: Exception | None = None

    @property
    def lag(self) -> int:
        """How many messages and gaps wait to be read."""
        return self._subscriber.lag

    @property
    def queued_bytes(self) -> int:
        """How many bytes of messages wait in its outbox."""
        return self._subscriber.outbox.size_bytes

    @property
    def dropped(self) -> int:
        """How many messages its overflow policy has dropped so far."""
        return self._subscriber.outbox.dropped

    async def receive(self) -> Item:
        """Return the next message or gap; what is queued comes before the end.

        Raises:
            SlowConsumer: this reader fell too far behind; subscribe again with
                ``since`` the last message's position.
            BrokerClosed: the broker has closed.
            anyio.ClosedResourceError: the ``subscribe`` block has been left.
            anyio.BusyResourceError: another task is reading.

        Cancellation: nothing is lost. The item leaves the outbox in the last step.
        """
        with self._reading:
            await self._wait()
            return self._subscriber.take()

    async def receive_all(self) -> list[Item]:
        """Return everything that waits, oldest first; waits for at least one item.

        Raises and cancellation: as ``receive``.
        """
        with self._reading:
            await self._wait()
            return self._subscriber.take_all()

    def receive_nowait(self) -> Item:
        """Return the next item if one waits.

        Raises:
            anyio.WouldBlock: none waits. Else as ``receive``.
        """
        with self._reading:
            if not self._subscriber.lag:
                if self._error is not None:
                    raise self._error
                raise anyio.WouldBlock
            return self._subscriber.take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        return await self.receive()

    async def _wait(self) -> None:
        subscriber = self._subscriber
        if not subscriber.is_empty():
            await anyio.lowlevel.checkpoint()
            return
        while True:
            if self._error is not None:
                await anyio.lowlevel.checkpoint()
                raise self._error
            await self._wakeup.wait()
            if not subscriber.is_empty():
                return

    async def attach(self, topic: str, since: Position | None, recent: int) -> None:
        """Add a topic; ``Relay.attach`` says what is raised. Cancelled: not added."""
        core = self._core
        attached = await core.relay.attach(
            core.link, topic, self._subscriber, since=since, recent=recent
        )
        if self._error is not None:  # it ended while we waited
            core.relay.detach(topic, self._subscriber)
            raise self._error
        self._topics.append(topic)
        if attached.position is not None:
            self.started = {**self.started, topic: attached.position}
        self.recovered = attached.recovered

    def end(self, error: Exception) -> None:
        """Deliver no more; the reader gets what is queued and then the error."""
        if self._error is None:
            self._error = error
            for topic in self._topics:
                self._core.relay.detach(topic, self._subscriber)
            self._topics.clear()
            self._wakeup.close()

    def evict(self) -> None:
        """Give up what is queued: the broker is out of queue memory."""
        self.end(SlowConsumer("the broker is out of queue memory"))
        self._subscriber.clear()

    def close(self) -> None:
        """Let go of everything: the block has been left."""
        self.end(anyio.ClosedResourceError("the subscribe block has been left"))
        self._subscriber.clear()


def check_options(
    limits: Limits,
    overflow: Overflow | None,
    max_messages: int | None,
    max_bytes: int | None,
) -> None:
    """Refuse what is no policy, and bounds of an outbox that are out of range.

    Raises:
        UsageError: says which, and why.
    """
    if overflow is not None:
        check_choice("overflow", overflow, Overflow)
    for name, bound in (("max_messages", max_messages), ("max_bytes", max_bytes)):
        if bound is not None:
            check_number(name, bound, whole=True)
    if max_messages is not None and max_messages < 1:
        raise UsageError(f"max_messages must be > 0, not {max_messages}")
    if max_bytes is not None and max_bytes < limits.max_message_bytes:
        raise UsageError(
            f"max_bytes is {max_bytes}: below Limits.max_message_bytes, "
            "the largest message would never fit"
        )
