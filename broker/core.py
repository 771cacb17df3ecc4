"""What all actors of one node share."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from heapq import heapify, heappop
from threading import get_ident
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from . import orders
from .backplane import Link, Publication
from .batching import Batcher
from .config import Limits, Overflow, RuleBook
from .errors import (
    BrokerClosed,
    BrokerError,
    MessageTooLarge,
    SlowConsumer,
    UsageError,
)
from .framing import LastJoined
from .hooks import Hooks
from .message import NO_HEADERS, Message, Payload, Position, Receipt, size_of
from .relay import Relay
from .state.budget import Budget
from .state.checks import check_text
from .state.conflating import ConflatingOutbox
from .state.fifo import FifoOutbox
from .state.lag import Lag
from .state.outbox import Bounds, Outbox
from .stats import SAMPLE, Counters
from .topics import PRESENCE_PREFIX

__all__ = ("HAS_CLOSED", "NOT_RUNNING", "Core", "QueueOwner")

logger = logging.getLogger("broker")

MAX_ID_BYTES = 255  # as a topic: ids are kept in memory for a while
HAS_CLOSED = "the broker has closed"
NOT_RUNNING = (
    "the broker is not running: use `async with broker:` or pass "
    "lifespan=broker_lifespan(broker) to your application, and the server must run "
    "lifespans: daphne and `uvicorn --lifespan off` do not"
)
ELSEWHERE = (
    "the broker runs in another thread's event loop: "
    "use anyio.from_thread.run(broker.publish, …)"
)


class QueueOwner(Protocol):
    """Somebody with a queue, who can be made to give it up."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait, shared ones counted in full."""
        ...

    @property
    def lag(self) -> int:
        """Messages and gaps that wait to be handed out."""
        ...

    def evict(self) -> None:
        """Give up the queue at once, and be told why."""
        ...


class Core:
    """The running parts of one broker, from when it is entered until it is left.

    Args:
        obey: carries out what another node wants done to clients.
        hear: takes what it says otherwise.

    Attributes:
        batcher: wakes the writers whose wire format joins messages.
        last_joined: what their clients may share.
        owners: all with a queue: sessions and subscriptions.
        began: when the broker was entered (s, monotonic).
        is_closed: publish and subscribe no more.
        is_backplane_up: other nodes can be reached.
    """

    def __init__(
        self,
        limits: Limits,
        rules: RuleBook,
        hooks: Hooks,
        obey: Callable[[orders.Order], Awaitable[object]],
        hear: Callable[[orders.Word], None],
    ) -> None:
        self.limits = limits
        self.rules = rules
        self.hooks = hooks
        self._obey = obey
        self._hear = hear
        self.budget = Budget(limits.max_queued_bytes)
        self.counters = Counters()
        self.relay = Relay(
            rules=rules,
            budget=self.budget,
            counters=self.counters,
        )
        self.batcher = Batcher(self.counters)
        self.last_joined = LastJoined()
        self.owners: dict[QueueOwner, None] = {}
        self.began = anyio.current_time()
        self.is_closed = False
        self.is_backplane_up = True
        self._lag = Lag(self.counters.lag)
        self._thread = get_ident()
        self._link: Link | None = None
        self._tasks: TaskGroup | None = None
        self._farewells = 0
        self._unread = 0  # pieces of news
        self._quiet: anyio.Event | None = None  # set when no farewell is under way

    def check_thread(self) -> None:
        """Refuse calls from other threads: who waits here would not be woken.

        Raises:
            UsageError: says what to do there.
        """
        if get_ident() != self._thread:
            raise UsageError(ELSEWHERE)

    @property
    def link(self) -> Link:
        """The connection to the backplane.

        Raises:
            BrokerClosed: the broker is closing or closed.
        """
        if self._link is None or self.is_closed:
            raise BrokerClosed("the broker is closed")
        return self._link

    @property
    def connected(self) -> Link:
        """The connection to the backplane, also while the broker is closing."""
        if self._link is None:
            raise BrokerClosed("the broker is closed")
        return self._link

    @asynccontextmanager
    async def running(self, link: Link) -> AsyncGenerator[TaskGroup, None]:
        """Use a connection to the backplane for as long as the block runs."""
        try:
            async with anyio.create_task_group() as tasks:
                self._link = link
                self._tasks = tasks
                tasks.start_soon(self.relay.run, link, name="broker: relay")
                tasks.start_soon(self.batcher.run, name="broker: batcher")
                yield tasks
                tasks.cancel_scope.cancel()
        finally:
            self._link = None
            self._tasks = None
            self.close()

    def close(self) -> None:
        """Free everything; also if it never ran. Idempotent."""
        self.relay.close()
        self.batcher.close()

    def see_off(self, farewell: Callable[[], Awaitable[object]]) -> anyio.Event:
        """Run a session's farewell in a task of the broker's own, for ``grace_s``.

        Returns:
            An event that is set when it is over; at once if the broker has gone.
        """
        over = anyio.Event()

        async def run() -> None:
            try:
                with anyio.move_on_after(self.limits.grace_s):
                    await farewell()
            except BrokerError as error:  # such as the link to the other nodes
                logger.warning("what follows a session was not done: %s", error)
            except Exception:  # one client's: all others would go with this task
                logger.exception("what follows a session has failed")
            finally:
                self._farewells -= 1
                if not self._farewells and self._quiet is not None:
                    self._quiet.set()
                over.set()

        if self._tasks is None:
            over.set()
        else:
            self._farewells += 1
            self._tasks.start_soon(run, name="broker: farewell")
        return over

    async def wait_farewells(self) -> None:
        """Wait until every farewell that has begun is over."""
        while self._farewells:
            self._quiet = anyio.Event()
            await self._quiet.wait()

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        """Fan out what the backplane brings, and keep to the byte budget."""
        if self.counters.published % SAMPLE:
            self.relay.deliver(message, exclude)
        else:
            began = message.share.fanned_out = anyio.current_time()
            self.relay.deliver(message, exclude)
            self.counters.fan_out.observe(anyio.current_time() - began)
        if self._lag.is_awaiting and message.position is not None:
            self._lag.arrive(message.topic, message.position, anyio.current_time())
        self.relieve()

    def skip(self, topic: str, position: Position) -> None:
        """Tell what is lost for good; see ``Node``."""
        self.relay.skip(topic, position)

    def down(self, reason: str) -> None:
        """Note that the backplane is out of reach; see ``Node``."""
        self.is_backplane_up = False
        self.counters.outages += 1
        logger.warning("the backplane is down: %s", reason)

    def up(self) -> None:
        """Note that it is back; see ``Node``."""
        if not self.is_backplane_up:
            logger.info("the backplane is up again")
            self.is_backplane_up = True
            self.relay.skip_patterns()

    def hear(self, news: bytes) -> None:
        """Do what another node asks of all, or take what it says; see ``Node``."""
        try:
            heard = orders.decode(news)
        except ValueError as error:
            self._unread += 1
            if not self._unread & (self._unread - 1):  # each doubling: it is not alone
                logger.warning(
                    "another node asks for what this version cannot do: %s (%d so far)",
                    error,
                    self._unread,
                )
            return
        if isinstance(heard, orders.Word):
            self._hear(heard)
        else:
            self.see_off(partial(self._obey, heard))

    def relieve(self) -> None:
        """End those with the most queued bytes until the budget holds."""
        if not self.budget.is_exceeded:
            return
        # The number breaks ties: owners cannot be compared.
        largest = [
            (-owner.queued_bytes, number, owner)
            for number, owner in enumerate(self.owners)
        ]
        heapify(largest)
        while largest and self.budget.is_exceeded:
            heappop(largest)[2].evict()

    def outbox(
        self,
        overflow: Overflow,
        max_messages: int | None = None,
        max_bytes: int | None = None,
    ) -> Outbox:
        """Return an empty outbox, with the default bounds where none are given."""
        bounds = Bounds(
            max_messages or self.limits.max_outbox_messages,
            max_bytes or self.limits.max_outbox_bytes,
        )
        kind = ConflatingOutbox if overflow is Overflow.CONFLATE else FifoOutbox
        return kind(overflow, bounds, self.budget, self.counters)

    def check_size(self, payload: Payload, headers: Mapping[str, str]) -> int:
        """Return what a publication costs a queue (bytes).

        Raises:
            UsageError: neither str nor bytes, or text that is not valid Unicode;
                headers that are no text.
            MessageTooLarge: over ``Limits.max_message_bytes``, headers included.
        """
        if not isinstance(payload, str | bytes):
            kind = type(payload).__name__
            raise UsageError(f"payload must be str or bytes, not {kind}")
        try:
            size = size_of(payload)
            if headers is not NO_HEADERS:
                size += _size_of_headers(headers)
        except UnicodeEncodeError as error:
            raise UsageError(f"payload cannot be sent as UTF-8: {error}") from error
        if size > self.limits.max_message_bytes:
            raise MessageTooLarge(size, self.limits.max_message_bytes)
        return size

    async def publish(
        self,
        topic: str,
        payload: Payload,
        *,
        message_id: str | None = None,
        exclude: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Receipt:
        """Publish to a checked topic; ``Broker.publish`` says what is promised."""
        # Sessions that the broker ends while it closes still leave in public.
        is_news = topic.startswith(PRESENCE_PREFIX)
        link = self.connected if is_news else self.link
        size = self.check_size(payload, headers)
        if message_id is not None:
            check_text("message_id", message_id)
            if len(message_id.encode()) > MAX_ID_BYTES:
                raise UsageError(f"message_id is over {MAX_ID_BYTES} bytes")
        publication = Publication(
            topic=topic,
            payload=payload,
            size_bytes=size,
            rules=self.rules.of(topic),
            message_id=message_id,
            exclude=exclude,
            headers=headers,
        )
        if not self.relay.blocking.targets(topic):
            return await self._publish(link, publication)
        async with AsyncExitStack() as turns:
            await self._wait_room(publication, turns)
            link = self.connected if is_news else self.link  # it may have closed
            return await self._publish(link, publication)

    async def _publish(self, link: Link, publication: Publication) -> Receipt:
        began = anyio.current_time()
        published = await link.publish(publication)
        now = anyio.current_time()
        self.counters.accepting.observe(now - began)
        reached = self.relay.reached(publication.topic)
        self._lag.accept(publication.topic, published.position, reached, now)
        handed = 0
        if not published.duplicate:
            targets = self.relay.registry.targets(publication.topic)
            handed = len(targets)
            if publication.exclude is not None:
                handed -= sum(t.owner_id == publication.exclude for t in targets)
        else:
            self.counters.duplicates += 1
        return Receipt(published.position, handed, published.duplicate)

    async def _wait_room(self, publication: Publication, turns: AsyncExitStack) -> None:
        """Wait until each subscriber with ``Overflow.BLOCK`` has room.

        All turns are taken in one order, so that publishers never wait in a circle;
        with the turn held, the room that was seen cannot be taken by another.
        """
        size = publication.size_bytes
        blocking = [
            subscriber
            for subscriber in self.relay.blocking.targets(publication.topic)
            if subscriber.owner_id != publication.exclude
        ]
        blocking.sort(key=lambda subscriber: subscriber.owner_id)
        with anyio.move_on_after(self.limits.block_s):
            for subscriber in blocking:
                if subscriber.turn is not None:
                    await turns.enter_async_context(subscriber.turn)
                await subscriber.wait_room(size)
            return
        problem = f"no room for {self.limits.block_s:g} s while a publisher waited"
        for subscriber in blocking:
            if not subscriber.outbox.has_room(size):
                subscriber.give_up(SlowConsumer(problem))


def _size_of_headers(headers: Mapping[str, str]) -> int:
    try:
        items: Iterable[tuple[object, object]] = headers.items()
    except AttributeError:
        kind = type(headers).__name__
        raise UsageError(f"headers are text by text, not {kind}") from None
    size = 0
    for key, text in items:
        if not isinstance(key, str) or not isinstance(text, str):
            found = {key: text}
            raise UsageError(f"headers are text by text, not {found!r}")
        size += size_of(key) + size_of(text)
    return size
