"""Between the backplane and the subscribers of this node: interest and fan-out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import anyio.lowlevel

from .backplane import Link
from .config import Overflow, RuleBook
from .errors import (
    BackplaneError,
    BrokerClosed,
    LimitExceeded,
    RecoveryImpossible,
    SlowConsumer,
    UsageError,
)
from .message import Gap, Item, Message, Position
from .state.budget import Budget
from .state.checks import check_start
from .state.fifo import FifoOutbox
from .state.outbox import Bounds
from .state.registry import Registry
from .stats import Counters
from .subscriber import Subscriber
from .wakeup import Wakeup

__all__ = ("Attached", "Greet", "Relay")


@dataclass(frozen=True, slots=True)
class Attached:
    """How a subscriber was attached to a topic.

    Attributes:
        position: the place in the topic after which it gets every message; with
            ``recovered`` that is the position asked for. None for a pattern.
        recovered: None if no position was asked for, else whether it gets all
            messages after it.
    """

    position: Position | None
    recovered: bool | None = None


# Called in the instant from which on everything is delivered; must not wait. If it
# raises, the subscriber is not attached.
Greet: TypeAlias = Callable[[Attached, list[Message]], list[Message]]


class _Interest:
    """What this node wants of one topic or pattern, and what it has.

    Attributes:
        users: subscribers that want it.
        is_live: the backplane delivers it.
        position: of the last message fanned out; None for a pattern.
        changed: set when it went live or failed.
        error: why it failed.
    """

    __slots__ = ("changed", "error", "is_live", "position", "users")

    def __init__(self) -> None:
        self.users = 0
        self.is_live = False
        self.position: Position | None = None
        self.changed = anyio.Event()
        self.error: BackplaneError | BrokerClosed | LimitExceeded | None = None

    def check(self) -> None:
        """Raise what went wrong, afresh for each who asks."""
        if isinstance(self.error, LimitExceeded):
            raise LimitExceeded(self.error.name, self.error.limit) from self.error
        if isinstance(self.error, BrokerClosed):
            raise BrokerClosed(str(self.error)) from self.error
        if self.error is not None:
            raise BackplaneError(str(self.error)) from self.error


class Relay:
    """Keeps the backplane's subscriptions in step with the subscribers of this node.

    One task talks to the backplane about interest, so subscriptions are single-flight:
    however many want a topic at once, and however they are cancelled, it is subscribed
    once and unsubscribed when nobody wants it.
    """

    def __init__(
        self,
        *,
        rules: RuleBook,
        budget: Budget,
        counters: Counters,
    ) -> None:
        self.registry: Registry[Subscriber] = Registry()
        # Only those with Overflow.BLOCK, so that other topics need not look for them.
        self.blocking: Registry[Subscriber] = Registry()
        self._rules = rules
        self._budget = budget
        self._counters = counters
        self._interests: dict[str, _Interest] = {}
        self._changes: dict[str, None] = {}  # names to look at, oldest first
        self._changed = Wakeup()

    async def run(self, link: Link) -> None:
        """Serve changes of interest for as long as the node is connected."""
        while True:
            if not self._changes:
                await self._changed.wait()
                continue
            name = next(iter(self._changes))
            del self._changes[name]
            await self._serve(link, name)

    def close(self) -> None:
        """Free the wake-up stream, and who waits; ``run`` has ended. Idempotent."""
        for interest in self._interests.values():
            interest.error = interest.error or BrokerClosed("the broker has closed")
            interest.changed.set()
        self._changed.close()

    async def attach(
        self,
        link: Link,
        name: str,
        subscriber: Subscriber,
        *,
        since: Position | None = None,
        recent: int = 0,
        greet: Greet | None = None,
    ) -> Attached:
        """Deliver a topic or pattern to a subscriber: from now on, or from before.

        Args:
            since: first what is after this position.
            recent: first so many of the last messages, as far as they are kept.
            greet: makes of what history has brought what goes out first.

        Raises:
            BackplaneError: the link failed; the subscriber is not attached.
            BrokerClosed: the broker has closed meanwhile; likewise.
            LimitExceeded: ``max_topics`` are in use; likewise.
            SlowConsumer: more came while history was read than its outbox holds; it
                is not attached.
            UsageError: ``since`` or ``recent`` with a pattern or with each other; it
                is not attached.

        Cancellation: the subscriber is not attached, and nothing was delivered to it.
        """
        check_start(since, recent)
        interest = self._want(name)
        try:
            await anyio.lowlevel.checkpoint()
            while not interest.is_live:
                await interest.changed.wait()
                interest.check()
            start = interest.position
            if since is None and not recent:
                # No await from here on: all after this position is delivered.
                attached = Attached(start)
                first = [] if greet is None else greet(attached, [])
                self._add(name, subscriber)
                if first:
                    subscriber.begin(first)
                return attached
            if start is None or subscriber in self.registry.targets(name):
                raise _cannot_go_back(name)  # noqa: TRY301 # undone below, as any
            missed, waiting, recovered = await self._catch_up(
                link, name, subscriber, start, since, recent
            )
            # Still no await: what is published next must find the subscriber.
            attached = Attached(start)
            if since is not None:
                attached = Attached(since if recovered else start, recovered)
            first = missed if greet is None else greet(attached, missed)
            self._add(name, subscriber)
            if greet is None:
                subscriber.recover(first)
            else:
                subscriber.begin(first)
            self._hand_over(waiting, subscriber)
            return attached
        except BaseException:
            self._unwant(name, interest)
            raise

    def detach(self, name: str, subscriber: Subscriber) -> None:
        """Stop to deliver a name to a subscriber; nothing happens if it is not so."""
        if self.registry.remove(name, subscriber):
            self.blocking.remove(name, subscriber)
            interest = self._interests.get(name)
            if interest is not None:
                self._unwant(name, interest)

    def reached(self, topic: str) -> Position | None:
        """Return the position up to which a topic was fanned out; None if it is not."""
        interest = self._interests.get(topic)
        return None if interest is None else interest.position

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        """Fan a message out to everybody who wants it.

        Sync on purpose: with no await, no subscriber can join or leave half way, and
        one slow socket cannot delay the others.
        """
        interest = self._interests.get(message.topic)
        position = message.position
        if (
            interest is not None
            and position is not None
            and not self._follow(interest, message, position)
        ):
            return
        targets = self.registry.targets(message.topic)
        if exclude is not None:
            targets = tuple(each for each in targets if each.owner_id != exclude)
        self._counters.published += 1
        self._counters.handed += len(targets)
        if targets:
            self._budget.hold(message, len(targets))
            size = message.share.size_bytes
            for subscriber in targets:  # Subscriber.deliver, written out
                try:
                    subscriber.outbox.offer(message, size)
                except SlowConsumer as slow:
                    subscriber.give_up(slow)
                    continue
                if subscriber.wakeup.armed:
                    subscriber.wakeup.notify()

    def skip(self, topic: str, position: Position) -> None:
        """Tell the subscribers of a topic that what they have not got is lost."""
        interest = self._interests.get(topic)
        if interest is None:
            return
        last = interest.position
        if last is not None and last.epoch == position.epoch:
            if last.offset >= position.offset:
                return
            gap = _hole(topic, last, position.offset)
        else:
            gap = _new_life(topic, position)
        interest.position = position
        for subscriber in self.registry.targets(topic):
            subscriber.tell(gap)

    def skip_patterns(self) -> None:
        """Tell who has subscribed to patterns that nobody knows what they have missed.

        A pattern has no position, so what came meanwhile cannot be found.
        """
        for pattern, subscribers in self.registry.by_pattern():
            for subscriber in subscribers:
                subscriber.tell(Gap(pattern, "", 0, 0, 0))

    def _follow(
        self, interest: _Interest, message: Message, position: Position
    ) -> bool:
        """Compare a position with the last one; False for a message seen before."""
        last, topic, offset = interest.position, message.topic, position.offset
        gap = None
        if last is not None and last.epoch == position.epoch:
            if offset <= last.offset:
                self._counters.duplicates += 1
                return False
            if offset > last.offset + 1:
                gap = _hole(topic, last, offset - 1)
        elif interest.is_live:
            gap = _new_life(topic, Position(position.epoch, offset - 1))
        interest.position = position
        if gap is not None:
            for subscriber in self.registry.targets(topic):
                subscriber.tell(gap)
        return True

    async def _catch_up(
        self,
        link: Link,
        name: str,
        subscriber: Subscriber,
        start: Position,
        since: Position | None,
        recent: int,
    ) -> tuple[list[Message], list[Item], bool]:
        """Read history up to ``start``, and collect what comes meanwhile.

        Returns:
            What history says, what came after ``start``, and whether history knew the
            position. When it returns, nothing is collected any more.
        """
        behind: list[SlowConsumer] = []
        held = self._stand_in(subscriber, behind)
        self.registry.add(name, held)
        try:
            if since is not None:
                page = await link.history(name, since=since)
                found = page.messages
            else:
                page = await link.history(name, limit=recent, reverse=True)
                found = page.messages[::-1]
            recovered = True
        except RecoveryImpossible:
            found, recovered = [], False
        finally:
            self.registry.remove(name, held)
            waiting = held.take_all()
        if behind:
            raise behind[0]
        return [each for each in found if _is_until(each, start)], waiting, recovered

    def _hand_over(self, items: list[Item], subscriber: Subscriber) -> None:
        for item in items:
            if isinstance(item, Gap):
                subscriber.tell(item)
            else:
                self._budget.hold(item, 1)
                subscriber.deliver(item, item.share.size_bytes)

    def _stand_in(
        self, subscriber: Subscriber, behind: list[SlowConsumer]
    ) -> Subscriber:
        """Return what collects for a subscriber while its history is read."""
        counters = Counters()  # its items are counted when the subscriber takes them
        bounds = Bounds(subscriber.outbox.max_messages, subscriber.outbox.max_bytes)
        outbox = FifoOutbox(Overflow.DISCONNECT, bounds, self._budget, counters)
        return Subscriber(
            subscriber.owner_id, outbox, subscriber.wakeup, counters, behind.append
        )

    def _add(self, name: str, subscriber: Subscriber) -> None:
        self.registry.add(name, subscriber)
        if subscriber.turn is not None:
            self.blocking.add(name, subscriber)

    def _want(self, name: str) -> _Interest:
        interest = self._interests.get(name)
        if interest is None or interest.error is not None:
            interest = self._interests[name] = _Interest()
            self._look_at(name)
        interest.users += 1
        return interest

    def _unwant(self, name: str, interest: _Interest) -> None:
        interest.users -= 1
        if not interest.users:
            self._look_at(name)

    def _look_at(self, name: str) -> None:
        # To the end: what has been left before must be left before, because a topic
        # that is left makes room for another.
        self._changes.pop(name, None)
        self._changes[name] = None
        self._changed.notify()

    async def _serve(self, link: Link, name: str) -> None:
        """Bring the backplane's subscription to a name in step with what is wanted."""
        interest = self._interests.get(name)
        if interest is None:
            return
        try:
            if interest.users and not interest.is_live:
                await self._go_live(link, name, interest)
            elif interest.is_live and not interest.users:
                # Who comes while we leave must wait until we are back.
                interest.is_live = False
                interest.changed = anyio.Event()
                await link.unsubscribe(name)
        except (BackplaneError, LimitExceeded) as error:
            interest.error = error
            interest.changed.set()
        if interest.error is not None:
            self._interests.pop(name, None)
        elif interest.is_live != bool(interest.users):  # it changed meanwhile
            self._look_at(name)
        elif not interest.users:
            del self._interests[name]

    async def _go_live(self, link: Link, name: str, interest: _Interest) -> None:
        start = await link.subscribe(name, self._rules.of(name))
        seen = interest.position  # by way of a pattern, before this was confirmed
        is_older = (
            seen is None
            or start is None
            or seen.epoch != start.epoch
            or seen.offset < start.offset
        )
        if is_older:
            interest.position = start
        interest.is_live = True
        interest.changed.set()


def _hole(topic: str, last: Position, until: int) -> Gap:
    """Return the gap behind the last message, up to an offset."""
    return Gap(topic, last.epoch, last.offset + 1, until, until - last.offset)


def _new_life(topic: str, until: Position) -> Gap:
    """Return the gap of a stream that has begun anew, up to a position of that life."""
    return Gap(topic, until.epoch, 0, until.offset, until.offset)


def _cannot_go_back(name: str) -> UsageError:
    return UsageError(
        f"{name} cannot begin before now: a pattern has no position, and what a "
        "pattern of the same subscriber covers is being received already"
    )


def _is_until(message: Message, end: Position) -> bool:
    position = message.position
    return position is not None and position.offset <= end.offset
