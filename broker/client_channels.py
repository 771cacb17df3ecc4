"""The subscriptions of one client of the Centrifuge protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import Raw, structs

from .client_delta import DeltaEncoder
from .client_format import ClientFormat
from .client_protocol import ClientProtocol, client_error
from .client_queries import resume_at
from .config import Overflow
from .errors import BackplaneError, NotAllowed
from .message import Gap, Message, Position, Share, size_of
from .protocol import codec, frames, tokens
from .protocol.codes import Disconnects, Errors, Unsubscribes
from .protocol.personal import is_open_to
from .protocol.recovery import Recovery
from .protocol.tokens import SubscribeGrant
from .relay import Attached
from .session import Session
from .topics import PRESENCE_PREFIX, check_topic, presence_topic, subject_of

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ("Channels", "Greeting")

Greeting: TypeAlias = Callable[[frames.SubscribeResult], list[str | bytes]]


@dataclass(slots=True)
class _Channel:
    is_server_side: bool
    info: Raw


class Channels:
    """The channels that a client is subscribed to, and what it may do with each.

    Attributes:
        broker, session, protocol, speaks: as given.
        conn_info: about the client, for others; from its token or the application.
        recoverable_bytes: what replies may still hold of what was missed, so that
            nobody is ended as slow, again and again, for having been away. Whoever
            handles a command says how much that is.
    """

    __slots__ = (
        "_channels",
        "_expiring",
        "broker",
        "conn_info",
        "protocol",
        "recoverable_bytes",
        "session",
        "speaks",
    )

    def __init__(
        self,
        broker: Broker,
        session: Session[Any],
        protocol: ClientProtocol,
        speaks: ClientFormat[Any],
    ) -> None:
        self.conn_info = frames.NO_DATA
        self.recoverable_bytes = 0
        self.broker = broker
        self.session = session
        self.protocol = protocol
        self.speaks = speaks
        self._channels: dict[str, _Channel] = {}
        self._expiring: dict[str, float] = {}  # {channel: when (s, Unix)}

    def __contains__(self, channel: str) -> bool:
        return channel in self._channels

    def is_server_side(self, channel: str) -> bool:
        """Return whether the server has made this subscription, if there is one."""
        held = self._channels.get(channel)
        return held is not None and held.is_server_side

    def info(self, channel: str) -> frames.ClientInfo:
        """Return what others in a channel may know of the client."""
        held = self._channels.get(channel)
        return frames.ClientInfo(
            self.session.user or "",
            self.session.client_id,
            self.conn_info,
            frames.NO_DATA if held is None else held.info,
        )

    def check(self, channel: str) -> None:
        """Refuse a channel that cannot be subscribed to, whoever asks.

        Raises:
            InvalidTopic: of its name.
            ClientError: an unknown namespace, or it is subscribed already.
        """
        check_topic(channel)
        if not self.broker.has_namespace(channel):
            raise client_error(Errors.UNKNOWN_CHANNEL)
        if channel in self._channels or channel in self.session.topics:
            raise client_error(Errors.ALREADY_SUBSCRIBED)

    async def subscribe(
        self,
        request: frames.Subscribe,
        grant: SubscribeGrant,
        *,
        greet: Greeting,
        is_server_side: bool = False,
    ) -> None:
        """Subscribe the client to a channel that it may have.

        Args:
            greet: makes of the result what the client gets before all publications.

        Raises:
            ClientError: as ``check``, or a filter, or no recovery where it is a must;
                nothing has changed.
            BrokerError: as ``Session.subscribe``; nothing has changed.
        """
        channel, session = request.channel, self.session
        self.check(channel)
        if request.tf is not None:
            raise client_error(Errors.BAD_REQUEST, "tag filters are not supported")
        self._channels[channel] = _Channel(is_server_side, grant.info)
        rules = self.broker.rules_of(channel)
        # A client must not hold up publishers, whatever the rules are for others.
        is_block = rules.overflow is Overflow.BLOCK
        policy = Overflow.DISCONNECT if is_block else None
        recovery = Recovery(request, rules, max_recovered=self.protocol.max_recovered)
        since: Position | None = None
        told: list[Message] = []

        def begin(attached: Attached, missed: list[Message]) -> list[Message]:
            # Not before: what is published from now on comes behind the reply.
            is_whole = recovery.needs_latest or bool(attached.recovered)
            if recovery.needs_missed and since is None and attached.position:
                is_whole = attached.position.offset == request.offset  # a new stream
            result = self._result(request, grant, recovery, attached, missed, is_whole)
            told.extend(
                Message("", line, share=Share(size_of(line))) for line in greet(result)
            )
            return told

        try:
            if recovery.needs_missed:
                since = await resume_at(
                    self.broker, channel, request.epoch, request.offset
                )
            if rules.join_leave:
                news = presence_topic(channel)
                await session.subscribe(news, authorized=True, overflow=policy)
            await session.subscribe(
                channel,
                since=since,
                recent=1 if recovery.needs_latest else 0,
                greet=begin,
                authorized=True,
                overflow=policy,
                info=codec.facts(self.conn_info, grant.info),
            )
        except BaseException as error:
            self.drop(channel)
            if not (told and isinstance(error, BackplaneError)):
                raise
            # Presence has failed, and the reply has gone: it must subscribe again.
            self.push(channel, Unsubscribes.INSUFFICIENT_STATE)
            if is_server_side:
                raise  # who has asked is not the client
            return
        self.prolong(channel, grant.expires_at)

    def _result(
        self,
        request: frames.Subscribe,
        grant: SubscribeGrant,
        recovery: Recovery,
        attached: Attached,
        missed: list[Message],
        is_whole: bool,
    ) -> frames.SubscribeResult:
        """Return the result, and get ready for what is published from now on."""
        channel, speaks = request.channel, self.speaks
        has_delta = request.delta == "fossil" and self.broker.rules_of(channel).delta
        while True:
            result = recovery.outcome(
                start=attached.position,
                is_whole=is_whole,
                missed=missed,
                publication=speaks.whole if has_delta else speaks.publication,
                grant=grant,
                ttl=grant.ttl_s(self.protocol.clock()),
            )
            if isinstance(result, frames.Error):
                raise client_error(result)
            size = len(msgspec.json.encode(result.publications))
            if not is_whole or size <= self.recoverable_bytes:
                break
            is_whole = False
        self.recoverable_bytes -= size
        if not has_delta:
            return result
        base = missed[-1] if result.publications else None
        self.session.actor.writer.framer.encoders[channel] = DeltaEncoder(speaks, base)
        return structs.replace(result, delta=True)

    async def publish(
        self, request: frames.Publish
    ) -> frames.PublishResult | frames.DisconnectPush:
        """Publish what the client says.

        Raises:
            NotAllowed: it may not; nothing was published.
            BrokerError: as ``Session.publish``.
        """
        channel, session = request.channel, self.session
        if not channel or not bytes(request.data):
            return Disconnects.BAD_REQUEST
        if not is_open_to(channel, session.user):
            raise NotAllowed(f"{channel} is for others")
        await session.publish(
            channel,
            self.speaks.payload(request.data),
            headers={codec.INFO_HEADER: codec.info_header(self.info(channel))},
        )
        return frames.PublishResult()

    def check_reads(self, channel: str, *, of: Literal["presence", "history"]) -> None:
        """Refuse presence or history to who is not there, or not allowed by its rules.

        Raises:
            NotAllowed: that is so.
        """
        if channel not in self._channels:
            raise NotAllowed
        rules = self.broker.rules_of(channel)
        access = rules.read_presence if of == "presence" else rules.read_history
        if not access.allows(self.session.user):
            raise NotAllowed(f"not allowed to read {of} of {channel}")

    def refresh(
        self, channel: str, token: str
    ) -> frames.SubRefreshResult | tokens.Refusal:
        """Have a subscription go on as a new token says, or return why not.

        Raises:
            NotAllowed: there is none.
        """
        if channel not in self._channels:
            raise NotAllowed
        now = self.protocol.clock()
        grant = tokens.sub_refresh(
            self.protocol.tokens,
            token,
            channel=channel,
            user=self.session.user or "",
            client=self.session.client_id,
            now=now,
        )
        if not isinstance(grant, tokens.SubscribeGrant):
            return grant
        self.prolong(channel, grant.expires_at)
        return frames.SubRefreshResult(
            expires=grant.expires_at is not None, ttl=grant.ttl_s(now)
        )

    async def leave(self, channel: str) -> None:
        """Stop a subscription, if there is one, and wait until it has."""
        try:
            await self.session.unsubscribe(channel, discard=True)
        finally:
            # Not before: who subscribes meanwhile would lose half of it again.
            self.drop(channel)

    def drop(self, channel: str) -> None:
        """Stop a subscription, if there is one, without waiting."""
        self._forget(channel)
        self.session.drop(channel)
        self.session.drop(presence_topic(channel))

    def drop_all(self) -> None:
        """Stop all subscriptions without waiting."""
        for channel in tuple(self._channels):
            self.drop(channel)

    def is_told_of(self, gap: Gap) -> bool:
        """Return whether a loss ends the subscription; if not, its policy allows it."""
        is_news = gap.topic.startswith(PRESENCE_PREFIX)
        policy = self.broker.rules_of(subject_of(gap.topic)).overflow
        return is_news or policy.is_lossless

    def prolong(self, channel: str, expires_at: float | None) -> None:
        """Have a subscription end at that time (s, Unix); None for never."""
        self._expiring.pop(channel, None)
        if expires_at is not None and channel in self._channels:
            self._expiring[channel] = expires_at

    def expire(self, now: float) -> bool:
        """End what is over, and tell the client (s, Unix).

        Returns:
            True for a server-side subscription, with which the connection ends: its
            client cannot ask for it anew.
        """
        for channel, expires_at in tuple(self._expiring.items()):
            if expires_at > now:
                continue
            if self.is_server_side(channel):
                return True
            self.drop(channel)
            self.push(channel, Unsubscribes.EXPIRED)
        return False

    def push(self, channel: str, body: frames.PushBody) -> None:
        """Send a push behind all that waits; without room the client ends as slow."""
        frame = self.speaks.push(frames.Push(channel, body))
        if self.session.ending is None:
            self.session.actor.send_nowait(frame, size_of(frame))

    def _forget(self, channel: str) -> None:
        self._channels.pop(channel, None)
        self._expiring.pop(channel, None)
        self.session.actor.writer.framer.encoders.pop(channel, None)
