"""One connected client: what its handler may do for it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, Self, cast

import anyio
import anyio.lowlevel

from .actor import Actor
from .config import Access, Overflow, check_client_overflow
from .core import Core
from .driver import Driver
from .ending import Ending, EndKind, ending_for
from .errors import (
    BrokerClosed,
    BrokerError,
    LimitExceeded,
    MessageTooLarge,
    NotAllowed,
    SessionEnded,
    SlowConsumer,
    UsageError,
)
from .message import NO_HEADERS, Gap, Payload, Position, Receipt, size_of
from .presence import Attendance
from .relay import Attached, Greet
from .state.rates import Meter
from .subscriber import Subscriber
from .topics import PRESENCE_PREFIX, check_pattern, check_topic, subject_of
from .transport import Frames, FrameT, Transport
from .turns import Turns
from .wire import WireFormat

__all__ = ("Session",)

logger = logging.getLogger("broker")


class Session(Generic[FrameT]):
    """One connected client. Made by ``Broker.open_session``.

    Iterate over it for the client's messages; the loop ends when the client has left
    or the session was ended.

    Attributes:
        client_id: unique; for ``publish(exclude=…)`` and ``disconnect(client=…)``.
        user: as ``authenticate`` said; None for an anonymous client.
        began: when it did (s, monotonic).
        client_host: the client's address; None where nobody knows it.
        is_plain: its frames are the handler's, not those of a protocol.
        driver: what speaks a protocol for it; None where the frames are the handler's.
        actor: its queues and tasks; for protocols.
    """

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        client_id: str,
        user: str | None,
        client_host: str | None,
        meters: tuple[Meter, ...],
        frames: Frames[FrameT],
        overflow: Overflow | None,
        wire: WireFormat,
    ) -> None:
        self.client_id = client_id
        self.user = user
        self.client_host = client_host
        self.driver: Driver | None = None
        self.is_plain = wire.wrap is None
        self.began = anyio.current_time()
        self._core = core
        self._overflow = overflow
        self._topics: dict[str, tuple[Subscriber, Attached]] = {}
        self._attendance = Attendance(core, client_id, user)
        self._wire = wire
        self._changing = Turns()  # one subscribe or unsubscribe at a time
        self._left: list[str] = []  # topics that it had when it ended
        self._fault: Exception | None = None  # the last one that is the client's
        self.actor = Actor(
            core,
            transport,
            owner_id=client_id,
            meters=meters,
            frames=cast("Frames[Payload]", frames),
            wire=wire,
            on_end=self._leave_topics,
            on_gap=self._note_gap,
        )

    @property
    def ending(self) -> Ending | None:
        """Why the session ended; None while it goes on."""
        return self.actor.ending

    @property
    def ended_by(self) -> Ending:
        """Why the session ended; only once it has."""
        assert self.actor.ending is not None
        return self.actor.ending

    @property
    def topics(self) -> list[str]:
        """Topics and patterns that are subscribed, oldest first."""
        return list(self._topics)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent and to be handled."""
        return self.actor.queued_bytes

    @property
    def lag(self) -> int:
        """Messages and gaps that wait to be sent."""
        return self.actor.lag

    @property
    def is_stalled(self) -> bool:
        """The client has not taken what is being sent for a while (about a second)."""
        return self.actor.is_stalled

    async def receive(self) -> FrameT:
        """Return the client's next message; str for text, bytes for binary.

        Raises:
            SessionEnded: the client has left and all its messages were returned, or
                the session was ended.
            anyio.BusyResourceError: another task is receiving.

        Cancellation: nothing is lost.
        """
        return cast("FrameT", await self.actor.reader.receive())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FrameT:
        try:  # not by way of ``receive``: a coroutine for each idle client
            return cast("FrameT", await self.actor.reader.receive())
        except SessionEnded:
            raise StopAsyncIteration from None

    async def send(self, payload: Payload) -> None:
        """Queue a message for this client alone; waits while its outbox is full.

        To a client that has left nothing is sent, and that is no error: its handler
        goes on to what the client said before.

        The message keeps its place among those of topics whose policy is DISCONNECT.
        Waiting here is what holds back a client that sends and does not read.

        Raises:
            SessionEnded: the session is over; nothing was queued.
            MessageTooLarge, UsageError: as ``Broker.publish``; nothing was queued.

        Cancellation: nothing was queued.
        """
        size = self._core.check_size(payload, NO_HEADERS)
        if self._wire.wrap is not None:
            payload = self._wire.wrap(payload)
            size = size_of(payload)
        await self.actor.send(payload, size)

    async def subscribe(
        self,
        topic: str,
        *,
        since: Position | None = None,
        recent: int = 0,
        patterns: bool = False,
        overflow: Overflow | None = None,
        greet: Greet | None = None,
        authorized: bool = False,
        info: str = "",
    ) -> Attached:
        """Have the client receive a topic.

        Subscribing again changes nothing and returns what it returned first. A client
        that has left is not subscribed, and that is no error.

        Args:
            since: resume after this position: what was missed comes first.
            recent: begin with so many of the last messages that history keeps (>= 0),
                and go on without a gap; not with ``since``.
            patterns: take a pattern as well. Off, because a name that a client chose
                could then be one that covers more than was meant.
            overflow: policy; None for the session's, or else the topic's. Each policy
                in use has an outbox of its own, with the default bounds.
            greet: for protocols: makes of what history has brought what goes out
                first, such as the reply to the client's request.
            authorized: a token has decided: rules and hook are not asked.
            info: JSON text about the client, for others in the topic; "" for none.

        Raises:
            InvalidTopic, NotAllowed, LimitExceeded, MessageTooLarge: refused; nothing
                was changed. Uncaught, they end the session with 1008 and the reason.
            UsageError: ``Overflow.BLOCK``, because a client must not hold up
                publishers; ``since`` or ``recent`` with a pattern or with each other.
            SessionEnded, BrokerClosed, BackplaneError: nothing was changed.

        Cancellation: it is not subscribed.
        """
        core = self._core
        self.actor.check()
        async with self._on_behalf_of_client("authorize_subscribe"):
            check_pattern(topic)
            if not patterns:
                check_topic(topic.removeprefix(PRESENCE_PREFIX))
            if not authorized:
                await self._authorize(topic)
            self._attendance.check(topic, info)
        policy = overflow or self._overflow or core.rules.of(topic).overflow
        check_client_overflow(policy)
        async with self._changing.turn():
            self.actor.check()
            if self.actor.has_left:
                return Attached(None)
            if topic in self._topics:
                return self._topics[topic][1]
            async with self._on_behalf_of_client():
                self._check_count(topic)
            lane = self.actor.writer.lane(policy)
            try:
                attached = await core.relay.attach(
                    core.link, topic, lane, since=since, recent=recent, greet=greet
                )
            except LimitExceeded as error:
                self._fault = error
                raise
            except SlowConsumer:  # more came while history was read than fits
                self.end(Ending.of(EndKind.SLOW_CONSUMER))
                raise SessionEnded(self.ended_by) from None
            if self.actor.ending is not None:  # while we waited
                core.relay.detach(topic, lane)
                self.actor.check()
                return Attached(None)
            self._topics[topic] = lane, attached
            try:
                await self._attendance.enter(topic, info)
            except BaseException:
                self._topics.pop(topic, None)
                core.relay.detach(topic, lane)
                # Not here: this task may have been cancelled.
                core.see_off(partial(self._follow, topic))
                raise
            return attached

    async def authorize(self, topic: str) -> None:
        """Decide whether the client may subscribe to a topic; for protocols.

        Raises:
            NotAllowed: it may not.
            SessionEnded: the hook has failed.
        """
        async with self._on_behalf_of_client("authorize_subscribe"):
            await self._authorize(topic)

    async def unsubscribe(self, topic: str, *, discard: bool = False) -> None:
        """Stop a subscription; what waits already is still sent.

        Does nothing if the topic is not subscribed.

        Args:
            discard: for protocols: let go of what waits of it.
        """
        async with self._changing.turn():
            await anyio.lowlevel.checkpoint()
            if self._detach(topic, discard=discard):
                await self._say_gone(topic)

    async def publish(
        self,
        topic: str,
        payload: Payload,
        *,
        message_id: str | None = None,
        echo: bool = True,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Receipt:
        """Publish on the client's behalf: rules and ``authorize_publish`` decide.

        Works for a client that has left, as long as it was not ended.

        Args:
            message_id: as ``Broker.publish``.
            echo: False to leave this client out, should it be subscribed.
            headers: as ``Broker.publish``; never what a client gave.

        Raises:
            InvalidTopic, MessageTooLarge, NotAllowed: refused; nothing was published.
                Uncaught, they end the session with 1008 or 1009 and the reason.
            SessionEnded, BrokerClosed, BackplaneError: nothing was published.
        """
        core = self._core
        self.actor.check()
        async with self._on_behalf_of_client("authorize_publish"):
            check_topic(topic)
            core.check_size(payload, headers)
            self._check_access(core.rules.of(topic).publish, f"publish to {topic}")
            if core.hooks.authorize_publish is not None:
                await core.hooks.authorize_publish(self, topic, payload)
        return await core.publish(
            topic,
            payload,
            message_id=message_id,
            exclude=None if echo else self.client_id,
            headers=headers,
        )

    def end(self, ending: Ending, *, flush: bool = False) -> None:
        """End the session: it leaves all topics now, and its client is told why.

        The first ending counts. Never blocks. The client has ``Limits.grace_s`` to
        read what is on its way; then the connection is left to the server.

        Args:
            flush: send what waits first; else it is let go of.
        """
        self.actor.end(ending, flush=flush)

    async def wait_ended(self) -> Ending:
        """Wait until the session is over; for handlers that only send."""
        return await self.actor.wait_ended()

    def evict(self) -> None:
        """Give up the queues: the broker is out of queue memory."""
        self.end(Ending.of(EndKind.OVER_BUDGET))

    def cut(self) -> None:
        """Wait for the client no longer; only once the session has ended."""
        self.actor.cut()

    def check_deadlines(self, now: float) -> None:
        """End the session if one of its deadlines has passed (s, monotonic)."""
        self.actor.check_deadlines(now)
        if self.driver is not None and self.ending is None:
            self.driver.tick(now)
        if self.ending is None:
            # Last: who begins to receive now has not heard yet what has come.
            self.actor.reader.tick()

    def drop(self, topic: str) -> None:
        """Stop a subscription without waiting; presence follows in a broker's task.

        What waits of it is let go of. Does nothing if the topic is not subscribed.
        """
        if self._detach(topic, discard=True):
            self._core.see_off(partial(self._follow, topic))

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run something in a task of the broker's own, for ``grace_s`` at most."""
        self._core.see_off(task)

    def identify(self, user: str) -> None:
        """Note whose session it is; by way of ``Broker.identify``."""
        self.user = user
        self._attendance.identify(user)

    async def _authorize(self, topic: str) -> None:
        for rules in self._core.rules.governing(topic):
            self._check_access(rules.subscribe, f"subscribe to {topic}")
        if self._core.hooks.authorize_subscribe is not None:
            await self._core.hooks.authorize_subscribe(self, topic)

    def _detach(self, topic: str, *, discard: bool) -> bool:
        known = self._topics.pop(topic, None)
        if known is None:
            return False
        lane = known[0]
        self._core.relay.detach(topic, lane)
        if discard:
            self.actor.discard(lane, topic)
        return True

    async def _follow(self, topic: str) -> None:
        """Leave a topic that was dropped, unless it is subscribed again."""
        async with self._changing.turn():
            if topic not in self._topics:
                await self._say_gone(topic)

    async def _say_gone(self, topic: str) -> None:
        """Leave a topic's presence and have the application told."""
        try:
            await self._attendance.leave(topic)
        finally:  # whatever has become of that
            self._tell_gone(topic)

    def _tell_gone(self, topic: str) -> None:
        hook = self._core.hooks.on_unsubscribe
        if hook is not None and not topic.startswith(PRESENCE_PREFIX):
            # In a task of its own: it may take its time, and subscribe again.
            self._core.see_off(partial(hook, self, topic))

    def _check_count(self, topic: str) -> None:
        limit = self._core.limits.max_subscriptions
        if len(self._topics) < limit:
            return
        # A topic and its presence topic are one subscription.
        if len({subject_of(name) for name in (*self._topics, topic)}) > limit:
            raise LimitExceeded("max_subscriptions", limit)

    def _note_gap(self, gap: Gap) -> bool:
        return self.driver is None or self.driver.lose(gap)

    def _leave_topics(self) -> None:
        for topic, (lane, _) in self._topics.items():
            self._core.relay.detach(topic, lane)
        self._left = list(self._topics)
        self._topics.clear()

    def _check_access(self, access: Access, what: str) -> None:
        if not access.allows(self.user):
            raise NotAllowed(
                f"not allowed to {what}", authenticated=self.user is not None
            )

    @asynccontextmanager
    async def _on_behalf_of_client(self, hook: str = "") -> AsyncGenerator[None, None]:
        """Take an error for the client's; what else a hook raises ends the session."""
        try:
            yield
        except (UsageError, NotAllowed) as error:
            self._fault = error
            raise
        except BrokerError:
            raise
        except Exception as error:
            logger.exception("session %a: hook %s failed", self.client_id, hook)
            self.end(Ending.of(EndKind.INTERNAL_ERROR))
            raise SessionEnded(self.ended_by) from error

    def _absorbs(self, error: Exception) -> bool:
        """End the session for what its handler raised; False if that is a bug in it.

        A message that is too large is the client's doing, wherever it was noticed: it
        is what the handler makes of a client's message that was nearly so.
        """
        if isinstance(error, SessionEnded) and error.ending is self.actor.ending:
            return True
        if isinstance(error, BrokerClosed | MessageTooLarge) or error is self._fault:
            if ending_for(error).kind is EndKind.INTERNAL_ERROR:  # nobody else is told
                logger.warning("session %a: %s", self.client_id, error)
            self.end(ending_for(error))
            return True
        self.end(Ending.of(EndKind.INTERNAL_ERROR))
        return False

    async def _begin(self) -> None:
        hook = self._core.hooks.on_connect
        if hook is not None:
            async with self._on_behalf_of_client("on_connect"):
                await hook(self)

    async def say_farewell(self) -> None:
        """Leave presence and tell the application.

        Run by the broker, within ``grace_s`` (``Core.see_off``), not by the session's
        own task, which its host may cancel at any moment and more than once.
        """
        try:
            try:
                await self._attendance.leave_all()
            finally:
                for topic in self._left:
                    self._tell_gone(topic)
            hook = self._core.hooks.on_disconnect
            if hook is not None:
                await hook(self, self.ended_by)
        except Exception:
            logger.exception("session %a: farewell failed", self.client_id)
