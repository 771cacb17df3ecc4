"""The broker: publish, subscribe, and the sessions of one node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from typing import Any, Self

import anyio
import anyio.lowlevel
from anyio import AsyncContextManagerMixin

from . import orders, survey
from .backplane import Backplane, Page
from .clients import Clients
from .config import Limits, Overflow, RuleBook, TopicRules
from .core import HAS_CLOSED, NOT_RUNNING, Core
from .ending import Ending, EndKind
from .errors import BrokerClosed, UsageError
from .hooks import Hooks
from .message import NO_HEADERS, Encode, Payload, Position, Receipt
from .nodes import Nodes
from .schemes import chosen
from .session import Session
from .state.checks import check_start, given
from .state.origins import Origins
from .state.presence import Member
from .stats import Statistics
from .subscription import Subscription, check_options
from .tasks import collapsing
from .topics import check_pattern, check_topic, is_pattern, namespace_of
from .transport import ConnectRequest, Frames, FrameT, Transport
from .wire import PLAIN, WireFormat

__all__ = ("Broker",)


class Broker(AsyncContextManagerMixin):
    """One node: hands what is published on a topic to all who subscribe to it.

    It runs inside ``async with broker:`` (or the application's lifespan) and may be
    entered again after it was left; what it remembered is gone then. Other threads
    reach it with ``anyio.from_thread.run``: all but ``statistics`` refuses them.

    Args:
        backplane: carries messages to other nodes, or its URL; None for a node on its
            own.
        rules: options by topic; the first that matches wins.
        limits: every bound.
        hooks: where the application takes part.
        origins: web pages that may connect besides those of the host that they connect
            to, such as ``https://app.example.com``; ``*`` lets the pages of every site
            connect, with their visitors' cookies.

    Raises:
        UsageError: an option of another kind, an origin that is none, or a URL that
            stands for no backplane.
        ModuleNotFoundError: the backplane's extra is not installed; says which.

    Attributes:
        nodes: the other nodes.

    Guarantees: README.md, "What it promises", each with its test.
    """

    def __init__(
        self,
        backplane: Backplane | str | None = None,
        *,
        rules: Iterable[TopicRules] = (),
        limits: Limits | None = None,
        hooks: Hooks | None = None,
        origins: Iterable[str] = (),
    ) -> None:
        self.limits = given("limits", limits, Limits)
        self.hooks = given("hooks", hooks, Hooks)
        self.backplane = chosen(backplane)
        self._rules = RuleBook(rules)
        self._running: Core | None = None
        self._has_run = False
        self._clients = Clients(self.limits, origins)
        self.nodes = Nodes()
        survey.answer(self)
        self._subscriptions: dict[Subscription, None] = {}

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self, None]:
        clients, nodes = self._clients, self.nodes
        core = Core(self.limits, self._rules, self.hooks, clients.carry_out, nodes.hear)
        # If the backplane cannot be connected, nothing else closes it.
        with collapsing(), closing(core):
            async with (
                self.backplane.connect(core, self.limits) as link,
                core.running(link) as tasks,
                nodes.joined(link, core.see_off),
            ):
                self._running = core
                self._has_run = self._clients.admission.is_open = True
                tasks.start_soon(self._clients.watch, name="broker: watchdog")
                try:
                    yield self
                finally:
                    core.is_closed = True
                    await self._end_all(core)
                    self._running = None

    @property
    def is_running(self) -> bool:
        """The broker has been entered, and is not closing."""
        return self._running is not None and not self._running.is_closed

    @property
    def is_ready(self) -> bool:
        """It is running and takes new clients: not draining."""
        return self.is_running and self._clients.admission.is_open

    async def publish(
        self,
        topic: str,
        payload: Payload,
        *,
        message_id: str | None = None,
        exclude: Session[Any] | Subscription | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Hand a message to all who subscribe to the topic.

        It does not wait for them, except for subscriptions with ``Overflow.BLOCK``:
        until each of those has room, or ``Limits.block_s`` has passed and those that
        still have none are ended with ``SlowConsumer``.

        Args:
            payload: str or bytes; the type reaches clients as text or binary.
            message_id: publish once only: a second publish with the same topic and id
                within ``Limits.idempotency_s`` does nothing (at most 255 bytes).
            exclude: a session, a subscription or the id of one, not to get it.
            headers: small facts beside the payload; they count towards its size.

        Returns:
            The message's position and how many subscriptions of this node it was
            handed to.

        Raises:
            InvalidTopic: not a concrete topic; nothing was published.
            MessageTooLarge: over ``Limits.max_message_bytes``; nothing was published.
            UsageError: a payload that is neither, or anything else of another type; a
                broker that was not entered, or was so in another thread.
            BrokerClosed: the broker is closing or closed; nothing was published.
            BackplaneError: the link to the other nodes failed. Over a network nobody
                knows whether it was published: do it again with the same
                ``message_id``.

        Cancellation: with the in-memory backplane, nothing was published.
        """
        core = self._core()
        check_topic(topic)
        return await core.publish(
            topic,
            payload,
            message_id=message_id,
            exclude=_id_of(exclude),
            headers=NO_HEADERS if headers is None else headers,
        )

    @asynccontextmanager
    async def subscribe(
        self,
        *topics: str,
        since: Position | None = None,
        recent: int = 0,
        overflow: Overflow | None = None,
        max_messages: int | None = None,
        max_bytes: int | None = None,
    ) -> AsyncGenerator[Subscription, None]:
        """Receive topics and patterns for as long as the block runs.

        Once the block has been entered, nothing published afterwards is missed.

        Args:
            topics: at least one; a message that several of them cover comes once.
            since: resume after this position; with exactly one topic. See
                ``Subscription.recovered``.
            recent: begin with so many of the last messages that history keeps (>= 0),
                and go on without a gap; with exactly one topic, not with ``since``.
            overflow: what a full outbox does; None for what the topics' rules say.
            max_messages: most that wait (> 0; None for ``Limits.max_outbox_messages``).
            max_bytes: the same in bytes, at least one message of the largest size.

        Raises:
            InvalidTopic: nothing was subscribed.
            UsageError: no topic, rules that disagree, ``since`` or ``recent`` with
                more than one topic, a pattern or each other, bounds out of range;
                nothing was subscribed.
            LimitExceeded: ``Limits.max_topics`` are in use; nothing was subscribed.
            BrokerClosed, BackplaneError: nothing was subscribed.
            SlowConsumer: more came while history was read than the outbox holds.

        Cancellation: nothing stays behind.
        """
        core = self._core()
        for topic in topics:
            check_pattern(topic)
        if not topics:
            raise UsageError("subscribe needs a topic")
        is_plain = len(topics) == 1 and not is_pattern(topics[0])
        if (since is not None or recent) and not is_plain:
            raise UsageError("since and recent need one topic, not a pattern")
        check_options(self.limits, overflow, max_messages, max_bytes)
        policies = {self._rules.of(topic).overflow for topic in topics}
        if overflow is None and len(policies) > 1:
            raise UsageError("the topics' rules disagree on overflow: pass overflow=")
        outbox = core.outbox(overflow or policies.pop(), max_messages, max_bytes)
        subscription = Subscription(core, outbox)
        self._subscriptions[subscription] = None
        core.owners[subscription] = None
        try:
            for topic in dict.fromkeys(topics):
                await subscription.attach(topic, since, recent)
            yield subscription
        finally:
            del self._subscriptions[subscription]
            core.owners.pop(subscription, None)
            subscription.close()

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> Page:
        """Return messages that the topic's rules keep.

        Args:
            since: only those after it; None for all that are kept.
            limit: at most so many (> 0), the oldest, or with ``reverse`` the newest.
            reverse: newest first.

        Raises:
            RecoveryImpossible: not all messages after ``since`` are kept.
            InvalidTopic, UsageError, BrokerClosed, BackplaneError.
        """
        core = self._core()
        check_topic(topic)
        check_start(since)
        if limit < 1:
            raise UsageError(f"limit must be > 0, not {limit}")
        return await core.link.history(topic, since=since, limit=limit, reverse=reverse)

    async def presence(self, topic: str) -> list[Member]:
        """Return the sessions subscribed to a topic on all nodes, oldest first.

        Empty unless the topic's rules keep presence.

        Raises:
            InvalidTopic, UsageError, BrokerClosed, BackplaneError.
        """
        check_topic(topic)
        return await self._core().link.members(topic)

    async def disconnect(
        self,
        *,
        user: str | None = None,
        client: str | None = None,
        reason: str | None = None,
    ) -> int:
        """End all sessions of a user, or one client's, on all nodes.

        Args:
            reason: for the client, at most 123 bytes.

        Returns:
            How many of this node were ended; their clients are being told (close code
            4000).

        Raises:
            UsageError: neither or both of ``user`` and ``client``.
        """
        if (user is None) == (client is None):
            raise UsageError("disconnect needs either user= or client=")
        told = Ending.of(EndKind.DISCONNECTED, reason).reason  # cut, and valid
        order = orders.Disconnect(user=user, client=client, reason=told)
        return await self.order(order)

    async def subscribe_client(
        self,
        topic: str,
        *,
        user: str | None = None,
        client: str | None = None,
        since: Position | None = None,
        info: str = "",
        data: str = "",
        expires_at: float | None = None,
    ) -> int:
        """Subscribe all sessions of a user, or one client's, on all nodes.

        Neither rules nor hooks are asked. Clients of a protocol are told; those that
        have not said hello yet are left out.

        Args:
            since: begin after this position, as far as that is kept.
            info: JSON text about the client, for others in the topic.
            data: JSON text for the client, where its protocol has a place for it.
            expires_at: when it is over, likewise (s, Unix).

        Returns:
            How many of this node are subscribed now.

        Raises:
            InvalidTopic, UsageError: a wrong topic, neither user nor client; nothing
                was changed.
            BrokerError: what one of them met first, such as ``max_subscriptions``; the
                others are subscribed.
        """
        check_topic(topic)
        return await self.order(
            orders.Subscribe(
                user=user,
                client=client,
                topic=topic,
                info=info,
                data=data,
                since=since,
                expires_at=expires_at,
            )
        )

    async def unsubscribe_client(
        self, topic: str, *, user: str | None = None, client: str | None = None
    ) -> int:
        """End subscriptions of a user, or of one client, on all nodes.

        What waits of the topic is let go of. Clients of a protocol are told, and do
        not subscribe again by themselves; others notice nothing but silence. A
        subscription that is only being made is not ended.

        Returns:
            How many of this node were ended.

        Raises:
            InvalidTopic, UsageError: a wrong topic, neither user nor client.
        """
        check_topic(topic)
        return await self.order(
            orders.Unsubscribe(user=user, client=client, topic=topic)
        )

    async def refresh_client(
        self,
        *,
        user: str | None = None,
        client: str | None = None,
        expires_at: float | None,
    ) -> int:
        """Have connections end at another time than their tokens say, on all nodes.

        Args:
            expires_at: s, Unix; None for never.

        Returns:
            How many of this node have an end: those that speak a protocol.

        Raises:
            UsageError: neither user nor client.
        """
        order = orders.Refresh(user=user, client=client, expires_at=expires_at)
        return await self.order(order)

    async def order(self, order: orders.Order) -> int:
        """Do something to clients on all nodes; for protocols and APIs.

        Returns:
            To how many of this node.

        Raises:
            UsageError: neither user nor client; nothing was done.
            BrokerClosed: nothing was done.
            BackplaneError: it was done here, and others may not have heard.
            BrokerError: as the method says that stands for the order; the others have
                heard.
        """
        link, news = self._core().link, orders.encode(order)
        try:
            return await self._clients.carry_out(order)
        finally:
            if order.user is not None or order.client is not None:
                await link.tell(news)

    async def clear_history(self, topic: str) -> None:
        """Forget the messages that a topic's history keeps; its position stays.

        Raises:
            InvalidTopic, UsageError, BrokerClosed, BackplaneError.
        """
        check_topic(topic)
        await self._core().link.clear_history(topic)

    def statistics(self) -> Statistics:
        """Return a snapshot of this node; other threads may ask for one as well.

        Raises:
            UsageError: the broker was never entered.
            BrokerClosed: it has been left.
        """
        core = self._entered()
        registry, totals = core.relay.registry, core.counters
        return Statistics(
            sessions=len(self._clients),
            leaving=sum(session.ending is not None for session in self._clients),
            stalled=sum(session.is_stalled for session in self._clients),
            subscriptions=len(self._subscriptions),
            topics=registry.topic_count,
            patterns=registry.pattern_count,
            waiting=sum(owner.lag for owner in core.owners),
            queued_bytes=core.budget.used_bytes,
            is_draining=not self._clients.admission.is_open,
            is_backplane_up=core.is_backplane_up and not core.is_closed,
            nodes=len(self.nodes) + 1,
            totals=totals.copy(),
        )

    async def admit(
        self, request: ConnectRequest, *, user: str | None = None
    ) -> str | None:
        """Decide about a client before it is accepted, and return its user.

        Args:
            user: who the client is, if the endpoint knows; None asks ``authenticate``.

        Returns:
            The user; None for an anonymous client.

        Raises:
            OriginNotAllowed: a web page of another site, which ``origins`` does not
                list.
            NotAllowed: the hook refuses the client.
            LimitExceeded: ``max_sessions`` are connected, or ``max_sessions_per_host``
                or ``max_sessions_per_user`` of this one.
            BrokerClosed: the broker is draining or closing.
            UsageError: a user that is not text.
            Exception: whatever else the hook raises.
        """
        core = self._core()
        await anyio.lowlevel.checkpoint()
        return await self._clients.admission.decide(core, request, user)

    def check_origin(self, request: ConnectRequest) -> None:
        """Refuse a web page as ``admit`` does, where a request is no new client.

        Raises:
            OriginNotAllowed: a page of another site, which ``origins`` does not list.
            BrokerClosed, UsageError: the broker is not running.
        """
        self._clients.admission.check_origin(self._core(), request)

    @property
    def origins(self) -> Origins:
        """Whose pages may connect."""
        return self._clients.admission.origins

    def open_session(
        self,
        transport: Transport,
        frames: Frames[FrameT],
        *,
        user: str | None = None,
        client_id: str | None = None,
        client_host: str | None = None,
        overflow: Overflow | None = None,
        encode: Encode | None = None,
        wire: WireFormat = PLAIN,
    ) -> AbstractAsyncContextManager[Session[FrameT]]:
        """Run a session over an accepted transport for as long as the block runs.

        The block ends quietly with the session: when the client leaves, the loop over
        the session ends; ``SessionEnded`` from inside the block is absorbed, and so is
        an error that is the client's, such as a topic of its own that is refused. When
        the block is left in peace, what waits is sent and the client is closed with
        1000. Any other exception closes it with 1011 and comes out bare.

        Args:
            frames: what the client may send; anything else ends it with 1003.
            user: as ``authenticate`` said.
            client_id: unique among sessions; None for a random one.
            client_host: the client's address, for ``max_sessions_per_host`` and logs.
            overflow: policy of its subscriptions; None for what each topic's rules say.
            encode: makes the frame of a message or a gap; called once per message, not
                once per client, if it is one function for all of them. None for that
                of ``wire``.
            wire: how the session speaks otherwise; for protocols.

        Raises:
            LimitExceeded: as ``admit``; the transport is untouched.
            UsageError: the client id is taken, ``Overflow.BLOCK``, or an option of
                another type; the transport is untouched.
            SessionEnded: on entry, ``on_connect`` has refused the client.
            BrokerClosed: the broker is draining or closing; the transport is untouched.
        """
        return self._clients.open_session(
            self._core(),
            transport,
            frames,
            user=user,
            client_id=client_id,
            client_host=client_host,
            overflow=overflow,
            wire=wire if encode is None else replace(wire, encode=encode),
        )

    def identify(self, session: Session[Any], user: str) -> None:
        """Note whose session it is, where only its first message says so.

        Raises:
            LimitExceeded: ``max_sessions_per_user``; nothing has changed.
            UsageError: a user that is not text; likewise.
        """
        self._clients.identify(session, user)

    def has_namespace(self, topic: str) -> bool:
        """Return whether rules name the namespace of a topic, or it has none."""
        namespace = namespace_of(topic)
        return namespace is None or namespace in self._rules.namespaces

    def rules_of(self, topic: str) -> TopicRules:
        """Return the rules of a checked topic."""
        return self._rules.of(topic)

    def sessions(
        self, *, user: str | None = None, client: str | None = None
    ) -> list[Session[Any]]:
        """Return the sessions of this node, the longest connected first.

        Args:
            user: only this one's.
            client: only this one, if it is the user's.
        """
        return self._clients.of(user=user, client=client)

    @property
    def uptime_s(self) -> float:
        """Time since the broker was entered (s).

        Raises:
            UsageError: it was never entered.
            BrokerClosed: it has been left.
        """
        return anyio.current_time() - self._core().began

    def stop_admitting(self) -> None:
        """Refuse new clients until the broker is entered anew; ``drain`` begins so.

        Raises:
            UsageError: the broker was never entered.
            BrokerClosed: it has been left.
        """
        self._core()
        self._clients.admission.is_open = False

    async def wait_empty(self) -> None:
        """Wait until no session is left, with all that it had to do. A checkpoint."""
        core = self._core()
        await self._clients.wait_empty()
        await core.wait_farewells()

    def _core(self) -> Core:
        core = self._entered()
        core.check_thread()
        return core

    def _entered(self) -> Core:
        if self._running is not None:
            return self._running
        has_run = self._has_run
        raise BrokerClosed(HAS_CLOSED) if has_run else UsageError(NOT_RUNNING)

    async def _end_all(self, core: Core) -> None:
        """Tell everybody, and wait until the sessions have gone or time is up."""
        for session in self._clients:
            session.end(Ending.of(EndKind.SHUTDOWN), flush=True)
        # One second more than the sessions themselves have: theirs should end first.
        with anyio.move_on_after(self.limits.grace_s + 1, shield=True):
            await self.wait_empty()
        for subscription in tuple(self._subscriptions):
            subscription.end(BrokerClosed(HAS_CLOSED))


def _id_of(owner: Session[Any] | Subscription | str | None) -> str | None:
    if owner is None or isinstance(owner, str):
        return owner
    if isinstance(owner, Session):
        return owner.client_id
    if isinstance(owner, Subscription):
        return owner.id
    raise UsageError("exclude must be a session, a subscription or an id of one")
