"""A session whose client speaks the Centrifuge client protocol."""

from __future__ import annotations

import logging
from random import Random
from typing import TYPE_CHECKING

import anyio
import msgspec

from .client_protocol import ClientError, ClientProtocol
from .client_queries import history_of, members_of, resume_at
from .ending import Ending, EndKind
from .errors import BackplaneError, BrokerError, NotAllowed
from .message import Gap, Message, Share, size_of
from .protocol import codec, frames, tokens
from .protocol.codes import Disconnects, Errors, Unsubscribes, error_for
from .protocol.recovery import Recovery
from .protocol.rules import Rules
from .relay import Attached
from .session import Session
from .topics import check_topic, presence_topic, subject_of

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ("serve_client",)

logger = logging.getLogger("broker")

PING = "{}"


async def serve_client(
    broker: Broker, session: Session[str], protocol: ClientProtocol
) -> None:
    """Answer a client's commands, in order, until its session has ended.

    Args:
        session: opened with ``CLIENT_WIRE``; nothing else reads from it.
    """
    client = _Client(broker, session, protocol)
    session.on_gap = client.lose
    session.on_tick = client.tick
    async for frame in session:
        try:
            commands = codec.decode_commands(
                frame, max_commands=protocol.max_commands, max_depth=protocol.max_depth
            )
        except codec.BadFrame as error:
            logger.info("session %a: %s", session.client_id, error)
            client.end(Disconnects.BAD_REQUEST)
            return
        for command in commands:
            await client.handle(command)
            if session.ending is not None:
                return


class _Client:
    """One client's subscriptions and what it may do."""

    def __init__(
        self, broker: Broker, session: Session[str], protocol: ClientProtocol
    ) -> None:
        self._broker = broker
        self._session = session
        self._protocol = protocol
        self._rules = Rules(protocol.times, anyio.current_time(), Random())
        self._channels: dict[str, float | None] = {}  # {channel: expires at (s, Unix)}
        self._expires_at: float | None = None  # the connection (s, Unix)

    def end(self, told: frames.DisconnectPush) -> None:
        ending = Ending(EndKind.DISCONNECTED, told.code, told.reason)
        self._session.end(ending, flush=True)

    def lose(self, gap: Gap) -> None:
        """The place in a stream is lost: the client is told, and subscribes again."""
        self._drop(subject_of(gap.topic))

    def tick(self, now: float) -> None:
        """Ping, and end what has waited long enough."""
        told = self._rules.tick(now)
        if isinstance(told, frames.DisconnectPush):
            self.end(told)
            return
        if told:
            self._session.send_nowait(PING)
        over = self._protocol.clock() - self._protocol.times.expired_s
        if self._expires_at is not None and self._expires_at <= over:
            self.end(Disconnects.CONNECTION_EXPIRED)
            return
        for channel, expires_at in tuple(self._channels.items()):
            if expires_at is not None and expires_at <= over:
                self._drop(channel)
                self._push(channel, Unsubscribes.EXPIRED)

    async def handle(self, command: frames.Command) -> None:
        """Carry out one command and answer it."""
        if self._rules.is_deaf:
            return
        told = self._rules.check(command)
        if told is not None:
            self.end(told)
            return
        if isinstance(command.request, frames.Pong):
            return
        try:
            outcome = await self._outcome(command)
        except ClientError as error:
            outcome = frames.Error(error.code, error.message, error.temporary)
        except BrokerError as error:
            outcome = error_for(error)
            if outcome is None:
                raise  # the session's end, or a mistake of ours
        except Exception:
            kind = type(command.request).__name__.lower()
            logger.exception("session %a: %s failed", self._session.client_id, kind)
            outcome = Errors.INTERNAL
        if isinstance(outcome, frames.Error) and isinstance(
            command.request, frames.Connect
        ):
            self._rules.refused()
        if isinstance(outcome, frames.DisconnectPush):
            self.end(outcome)
        elif outcome is not None and command.id:
            reply = frames.Reply(command.id, outcome)
            await self._session.send(codec.encode_reply(reply))

    async def _outcome(
        self, command: frames.Command
    ) -> frames.Result | tokens.Refusal | None:
        """Return the result, or why there is none; None where there is no reply."""
        match command.request:
            case frames.Connect() as request:
                return await self._connect(request)
            case frames.Subscribe() as request:
                return await self._subscribe(command.id, request)
            case frames.Unsubscribe(channel):
                await self._leave(channel)
                return frames.UnsubscribeResult()
            case frames.Publish() as request:
                return await self._publish(request)
            case frames.Presence(channel):
                self._check_member(channel)
                return frames.PresenceResult(await members_of(self._broker, channel))
            case frames.PresenceStats(channel):
                self._check_member(channel)
                members = await members_of(self._broker, channel)
                users = {info.user for info in members.values()}
                return frames.PresenceStatsResult(len(members), len(users))
            case frames.History() as request:
                self._check_member(request.channel)
                most = self._protocol.max_history
                return await history_of(self._broker, request, most)
            case frames.Rpc(method, data):
                if self._protocol.rpc is None:
                    return Errors.NOT_AVAILABLE
                answer = await self._protocol.rpc(self._session, method, _text(data))
                return frames.RpcResult(codec.raw_json(answer))
            case frames.Send(data):
                if self._protocol.message is None:
                    return Disconnects.NOT_AVAILABLE
                await self._protocol.message(self._session, _text(data))
                return None
            case frames.Refresh(token):
                return self._refresh(token)
            case frames.SubRefresh(channel, token):
                return self._sub_refresh(channel, token)
        raise AssertionError("every command is handled")  # pragma: no cover

    async def _connect(self, request: frames.Connect) -> frames.Result | tokens.Refusal:
        protocol, session = self._protocol, self._session
        now = protocol.clock()
        is_known = session.user is not None
        grant = tokens.connect(
            protocol.tokens,
            request.token,
            now=now,
            anonymous=protocol.anonymous or is_known,
        )
        if not isinstance(grant, tokens.ConnectGrant):
            return grant
        if grant.user:
            self._broker.identify(session, grant.user)
        self._expires_at = grant.expires_at
        self._rules.connected(anyio.current_time())
        return frames.ConnectResult(
            client=session.client_id,
            version=protocol.version,
            ping=round(protocol.times.ping_s),
            pong=True,
            expires=grant.expires_at is not None,
            ttl=grant.ttl_s(now),
        )

    async def _subscribe(
        self, number: int, request: frames.Subscribe
    ) -> frames.Result | tokens.Refusal | None:
        channel, session = request.channel, self._session
        if not channel:
            return Disconnects.BAD_REQUEST
        check_topic(channel)
        if not self._broker.has_namespace(channel):
            return Errors.UNKNOWN_CHANNEL
        if channel in self._channels or channel in session.topics:
            return Errors.ALREADY_SUBSCRIBED
        grant = tokens.SubscribeGrant()
        if request.token:
            checked = tokens.subscribe(
                self._protocol.tokens,
                request.token,
                channel=channel,
                user=session.user or "",
                client=session.client_id,
                now=self._protocol.clock(),
            )
            if not isinstance(checked, tokens.SubscribeGrant):
                return checked
            grant = checked
        rules = self._broker.rules_of(channel)
        recovery = Recovery(
            request,
            is_recoverable=rules.history_size > 0,
            max_recovered=self._protocol.max_recovered,
        )
        since = None
        if recovery.is_wanted:
            since = await resume_at(
                self._broker, channel, request.epoch, request.offset
            )
        is_greeted = False

        def reply(attached: Attached, missed: list[Message], *, is_whole: bool) -> str:
            outcome = recovery.outcome(
                start=attached.position,
                is_whole=is_whole,
                missed=missed,
                grant=grant,
                ttl=grant.ttl_s(self._protocol.clock()),
            )
            if isinstance(outcome, frames.Error):
                raise ClientError(*_of(outcome))
            return codec.encode_reply(frames.Reply(number, outcome))

        def greet(attached: Attached, missed: list[Message]) -> list[Message]:
            # Not before: what is published from now on comes behind the reply.
            nonlocal is_greeted
            is_whole = bool(attached.recovered)
            if since is None and attached.position is not None:  # a new stream
                is_whole = attached.position.offset == request.offset
            frame = reply(attached, missed, is_whole=is_whole)
            # A client is not ended as slow, again and again, for what it has missed.
            if size_of(frame) > self._broker.limits.max_outbox_bytes // 2:
                frame = reply(attached, missed, is_whole=False)
            is_greeted = True
            return [Message("", frame, share=Share(size_of(frame)))]

        is_granted = bool(request.token)
        self._channels[channel] = grant.expires_at
        try:
            if rules.join_leave:
                news = presence_topic(channel)
                await session.subscribe(news, authorized=is_granted)
            await session.subscribe(
                channel, since=since, greet=greet, authorized=is_granted
            )
        except BaseException as error:
            self._drop(channel)
            if not (is_greeted and isinstance(error, BackplaneError)):
                raise
            # Presence has failed, and the reply has gone: it must subscribe again.
            self._push(channel, Unsubscribes.INSUFFICIENT_STATE)
        return None  # the greeting was the reply

    async def _publish(self, request: frames.Publish) -> frames.Result | tokens.Refusal:
        if not request.channel or not bytes(request.data):
            return Disconnects.BAD_REQUEST
        info = frames.ClientInfo(self._session.user or "", self._session.client_id)
        await self._session.publish(
            request.channel,
            _text(request.data),
            headers={codec.INFO_HEADER: codec.info_header(info)},
        )
        return frames.PublishResult()

    def _refresh(self, token: str) -> frames.Result | tokens.Refusal:
        now, user = self._protocol.clock(), self._session.user or ""
        grant = tokens.refresh(self._protocol.tokens, token, user=user, now=now)
        if not isinstance(grant, tokens.ConnectGrant):
            return grant
        self._expires_at = grant.expires_at
        return frames.RefreshResult(
            client=self._session.client_id,
            version=self._protocol.version,
            expires=grant.expires_at is not None,
            ttl=grant.ttl_s(now),
        )

    def _sub_refresh(self, channel: str, token: str) -> frames.Result | tokens.Refusal:
        self._check_member(channel)
        now = self._protocol.clock()
        grant = tokens.sub_refresh(
            self._protocol.tokens,
            token,
            channel=channel,
            user=self._session.user or "",
            client=self._session.client_id,
            now=now,
        )
        if not isinstance(grant, tokens.SubscribeGrant):
            return grant
        self._channels[channel] = grant.expires_at
        return frames.SubRefreshResult(
            expires=grant.expires_at is not None, ttl=grant.ttl_s(now)
        )

    def _check_member(self, channel: str) -> None:
        """Presence and history are for those who are in the channel."""
        if channel not in self._channels:
            raise NotAllowed

    def _push(self, channel: str, body: frames.UnsubscribePush) -> None:
        self._session.send_nowait(codec.encode_push(frames.Push(channel, body)))

    async def _leave(self, channel: str) -> None:
        self._channels.pop(channel, None)
        await self._session.unsubscribe(channel, discard=True)
        await self._session.unsubscribe(presence_topic(channel), discard=True)

    def _drop(self, channel: str) -> None:
        self._channels.pop(channel, None)
        self._session.drop(channel)
        self._session.drop(presence_topic(channel))


def _text(data: msgspec.Raw) -> str:
    """Return a payload as JSON text; null if none was given."""
    return bytes(data).decode() or "null"


def _of(error: frames.Error) -> tuple[int, str]:
    return error.code, error.message
