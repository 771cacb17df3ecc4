"""Where fan-out puts messages: an outbox and whom to wake."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import anyio
import anyio.lowlevel

from .config import Overflow
from .errors import SlowConsumer
from .message import Gap, Item, Message
from .state.outbox import Outbox
from .stats import Counters
from .wakeup import Alarm

__all__ = ("Subscriber",)

# An empty deque takes 760 bytes: all that have no backlog share this one.
_NONE: deque[Message] = deque(maxlen=0)


class Subscriber:
    """One party that receives, seen from the publisher's side.

    Args:
        owner_id: whose it is, for ``publish(exclude=…)``.
        outbox: where messages wait.
        wakeup: wakes whoever takes them out.
        counters: of the node.
        fell_behind: called once, from inside a fan-out, when the outbox has given up.
            It must not wait and not raise.

    Attributes:
        outbox: as given; read it, and leave writing to this class.
        wakeup: as given.
        turn: held by the one publisher that waits for room or publishes, if the
            policy is BLOCK; so that the room it has seen is still there.
    """

    __slots__ = (
        "_backlog",
        "_counters",
        "_fell_behind",
        "_room",
        "outbox",
        "owner_id",
        "turn",
        "wakeup",
    )

    def __init__(
        self,
        owner_id: str,
        outbox: Outbox,
        wakeup: Alarm,
        counters: Counters,
        fell_behind: Callable[[SlowConsumer], None],
    ) -> None:
        self.owner_id = owner_id
        self.outbox = outbox
        self.wakeup = wakeup
        self._counters = counters
        self._fell_behind = fell_behind
        self.turn = anyio.Lock() if outbox.overflow is Overflow.BLOCK else None
        self._backlog = _NONE  # from history, before the outbox
        self._room: anyio.Event | None = None  # set when something was taken

    def deliver(self, message: Message, size: int) -> None:
        """Queue a message and wake the reader. Never blocks and never raises.

        Args:
            size: ``message.size_bytes``, looked up once for all subscribers.
        """
        try:
            self.outbox.offer(message, size)
        except SlowConsumer as slow:
            self.give_up(slow)
            return
        if self.wakeup.armed:
            self.wakeup.notify()

    def tell(self, gap: Gap) -> None:
        """Queue the news of a loss and wake the reader. Never blocks, never raises."""
        try:
            self.outbox.tell(gap)
        except SlowConsumer as slow:
            self.give_up(slow)
            return
        if self.wakeup.armed:
            self.wakeup.notify()

    @property
    def lag(self) -> int:
        """How many items wait."""
        return len(self._backlog) + len(self.outbox)

    def is_empty(self) -> bool:
        """Say whether nothing waits; cheaper than ``not lag``."""
        return not self._backlog and self.outbox.is_empty()

    def poll(self) -> Item | None:
        """Take the oldest item, or return None if there is none."""
        if self._backlog:
            return self._take_backlog()
        item = self.outbox.poll()
        if item is not None and self._room is not None:
            self._tell_room()
        return item

    def take(self) -> Item:
        """Take the oldest item. Raises IndexError if there is none."""
        if self._backlog:
            return self._take_backlog()
        item = self.outbox.take()
        if self._room is not None:
            self._tell_room()
        return item

    def take_all(self) -> list[Item]:
        """Take everything that waits, oldest first."""
        items = self.outbox.take_all()
        if self._backlog:
            older = [self._take_backlog() for _ in range(len(self._backlog))]
            items = [*older, *items]
        if self._room is not None:
            self._tell_room()
        return items

    def recover(self, missed: Iterable[Message]) -> None:
        """Put messages from history before everything that waits.

        They are bounded by the history they come from, not by the outbox: a subscriber
        that resumes must not be ended for what it missed.
        """
        if self._backlog is _NONE:
            self._backlog = deque()
        for message in missed:
            self.outbox.budget.hold(message, 1)
            self._backlog.append(message)
        self.wakeup.notify()

    def begin(self, first: Iterable[Message]) -> None:
        """Put messages before all that a new subscription will bring.

        Behind what waits of an older one, where the policy neither drops nor replaces
        messages; else they would not be safe there, and come before everything.
        """
        if self.outbox.overflow is not Overflow.DISCONNECT:
            self.recover(first)
            return
        for message in first:
            self.outbox.budget.hold(message, 1)
            self.deliver(message, message.size_bytes)

    def discard(self, topic: str) -> None:
        """Let go of what waits of one topic. Costs a walk through all that waits."""
        for _ in range(len(self._backlog)):
            message = self._backlog.popleft()
            if message.topic == topic:
                self.outbox.budget.release(message)
            else:
                self._backlog.append(message)
        for item in self.outbox.take_all():
            if item.topic == topic:
                continue
            if isinstance(item, Message):
                self.outbox.budget.hold(item, 1)
                self.outbox.offer(item, item.size_bytes)
            else:
                self.outbox.untell(item)
        self._tell_room()

    async def wait_room(self, size: int) -> None:
        """Wait until a message of ``size`` bytes would fit, or nobody reads any more.

        A checkpoint even if there is room. Cancellation changes nothing.
        """
        await anyio.lowlevel.checkpoint()
        while not self.outbox.has_room(size):
            if self._room is None:
                self._room = anyio.Event()
            await self._room.wait()

    def give_up(self, slow: SlowConsumer) -> None:
        """Have its owner end it: nothing may be delivered to it any more."""
        self._counters.slow_consumers += 1
        self._fell_behind(slow)
        self._tell_room()

    def clear(self) -> None:
        """Let go of all that waits; whoever waits for room finds it."""
        while self._backlog:
            self._take_backlog()
        self.outbox.clear()
        self._tell_room()

    def _take_backlog(self) -> Message:
        message = self._backlog.popleft()
        self.outbox.budget.release(message)
        if not self._backlog:
            self._backlog = _NONE
        return message

    def _tell_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None
