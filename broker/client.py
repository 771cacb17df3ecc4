"""A session whose client speaks the Centrifuge client protocol."""

from __future__ import annotations

import logging
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import structs

from . import client_connecting as connecting
from .client_channels import Channels
from .client_format import JSON, ClientFormat
from .client_lease import Lease
from .client_protocol import ClientError, ClientProtocol, EmulationAddress, rpc_answer
from .client_queries import history_of, members_of
from .driver import ServerSubscription
from .ending import Ending, EndKind
from .errors import BrokerError, SessionEnded, UsageError
from .message import Gap, Payload, size_of
from .protocol import codec, frames, one_way, tokens
from .protocol.codes import Disconnects, Errors, Unsubscribes, error_for
from .protocol.rules import Rules
from .session import Session
from .topics import subject_of

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ("EmulationAddress", "serve_client")

logger = logging.getLogger("broker")
_random = Random()  # one for all: it takes 3 KB


async def serve_client(
    broker: Broker,
    session: Session[Any],
    protocol: ClientProtocol,
    *,
    speaks: ClientFormat[Any] = JSON,
    address: EmulationAddress | None = None,
) -> None:
    """Answer a client's commands, in order, until its session has ended.

    Args:
        session: opened with ``speaks.takes`` and ``speaks.wire``; nothing else reads
            from it.
        address: told to the client, where its connection carries one way only.
    """
    client = _Client(Channels(broker, session, protocol, speaks), address)
    session.driver = client
    session.actor.writer.delay_s = protocol.write_delay_s
    session.actor.writer.is_held = True  # until the connect command is answered
    # Whoever posts what the client says waits until it was received.
    if address is None:
        session.actor.reader.may_ask = True
    receive = session.actor.reader.receive
    while True:
        try:
            frame = await receive()
        except SessionEnded:
            return
        await client.take(frame)
        del frame  # not held on to while the client is silent
        if session.ending is not None:
            return


class _Client:
    """One client, and what it may do.

    Attributes:
        has_begun: it has sent its first command.
    """

    __slots__ = (
        "_address",
        "_broker",
        "_channels",
        "_lease",
        "_protocol",
        "_rules",
        "_session",
        "_speaks",
        "has_begun",
    )

    def __init__(self, channels: Channels, address: EmulationAddress | None) -> None:
        self.has_begun = False
        self._channels = channels
        self._broker = channels.broker
        self._session = channels.session
        self._protocol = channels.protocol
        self._speaks = channels.speaks
        self._address = address
        self._rules = Rules(
            self._protocol.times,
            anyio.current_time(),
            _random,
            pong=not self._speaks.is_one_way,
        )
        self._lease = Lease(self._session, self._protocol)

    def end(self, told: frames.DisconnectPush, *, flush: bool = True) -> None:
        ending = Ending(EndKind.DISCONNECTED, told.code, told.reason)
        self._session.end(ending, flush=flush)

    # --- Driver ---

    def lose(self, gap: Gap) -> bool:
        """The place in a stream is lost: the client is told, and subscribes again."""
        channel = subject_of(gap.topic)
        if not self._channels.is_told_of(gap):
            return False
        is_server_side = self._channels.is_server_side(channel)
        self._channels.drop(channel)
        if is_server_side:
            # It comes back and resumes: so nothing that comes after the gap goes out.
            self.end(Disconnects.INSUFFICIENT_STATE, flush=False)
        return not is_server_side

    def tick(self, now: float) -> None:
        """Ping, and end what has waited long enough."""
        has_more = self._session.actor.reader.has_more
        told = self._rules.tick(now, has_more=has_more)
        if isinstance(told, frames.DisconnectPush):
            self.end(told)
            return
        if told:
            ping = self._speaks.ping
            self._session.actor.send_nowait(ping, size_of(ping))
        now_unix = self._protocol.clock()
        if self._lease.is_over(now_unix):
            self.end(Disconnects.CONNECTION_EXPIRED)
        elif self._channels.expire(now_unix - self._protocol.times.expired_s):
            self.end(Disconnects.SUBSCRIPTION_EXPIRED)

    async def subscribe(self, subscription: ServerSubscription) -> None:
        """Subscribe a client that is connected, and tell it."""
        channel, since = subscription.topic, subscription.since
        has_it = channel in self._channels or channel in self._session.topics
        if has_it or not self._rules.is_connected:
            return

        def greet(result: frames.SubscribeResult) -> list[Payload]:
            push = frames.SubscribePush(
                recoverable=result.recoverable,
                epoch=result.epoch,
                offset=result.offset,
                positioned=result.positioned,
                data=result.data,
            )
            bodies: list[frames.PushBody] = [push, *result.publications]
            pushes = [self._speaks.push(frames.Push(channel, body)) for body in bodies]
            return [self._speaks.join(pushes)]  # one of the outbox, however many

        request = frames.Subscribe(
            channel=channel,
            recover=since is not None,
            epoch=since.epoch if since is not None else "",
            offset=since.offset if since is not None else 0,
        )
        grant = tokens.SubscribeGrant(
            info=codec.raw_or_none(subscription.info),
            data=codec.raw_or_none(subscription.data),
            expires_at=subscription.expires_at,
        )
        self._channels.recoverable_bytes = self._most_bytes
        await self._channels.subscribe(request, grant, greet=greet, is_server_side=True)

    def unsubscribe(self, topic: str) -> None:
        """End the client's subscription for good and tell it."""
        is_told = topic in self._channels  # not of what a handler has subscribed
        self._channels.drop(topic)
        if is_told:
            self._channels.push(topic, Unsubscribes.SERVER)

    def refresh(self, expires_at: float | None) -> None:
        """Have the connection end at that time (s, Unix); None for never."""
        self._lease.expires_at = expires_at
        if self._speaks.is_one_way and self._rules.is_connected:
            ttl = tokens.ttl_s(expires_at, self._protocol.clock())
            push = frames.RefreshPush(expires=expires_at is not None, ttl=ttl)
            self._channels.push("", push)

    # --- Commands ---

    async def take(self, frame: Payload) -> None:
        """Carry out the commands of a frame and answer them."""
        if self._speaks.is_one_way and self.has_begun:
            return  # whatever it says
        try:
            commands = self._speaks.decode(
                frame,
                max_commands=self._protocol.max_commands,
                max_depth=self._protocol.max_depth,
            )
        except codec.BadFrame as error:
            logger.info("session %a: %s", self._session.client_id, error)
            self.end(Disconnects.BAD_REQUEST)
            return
        for command in commands:
            await self.handle(command)
            if self._session.ending is not None:
                return

    async def handle(self, command: frames.Command) -> None:
        """Carry out one command and answer it."""
        self.has_begun = True
        if self._rules.is_deaf:
            return
        told = self._rules.check(command)
        if told is not None:
            self.end(told)
            return
        request = command.request
        if isinstance(request, frames.Pong):
            return
        self._channels.recoverable_bytes = self._most_bytes
        try:
            outcome = await self._outcome(command)
        except ClientError as error:
            outcome = frames.Error(error.code, error.message, error.temporary)
        except Exception as error:
            outcome = error_for(error) if isinstance(error, BrokerError) else None
            if outcome is None:
                if isinstance(error, BrokerError) and not isinstance(error, UsageError):
                    raise  # the session's end
                kind = type(request).__name__.lower()
                logger.exception("session %a: %s failed", self._session.client_id, kind)
                outcome = Errors.INTERNAL
        await self._answer(command, outcome)

    async def _answer(
        self, command: frames.Command, outcome: frames.Result | tokens.Refusal | None
    ) -> None:
        """Send what there is to say. Who is connected gets that before all else."""
        is_connect = isinstance(command.request, frames.Connect)
        frame = self._speaks.answer(command.id, outcome)
        # What a client comes back to may take more than what it has missed.
        most = self._most_bytes * (2 if is_connect else 1)
        if frame is not None and size_of(frame) > most:
            outcome = structs.replace(Errors.LIMIT_EXCEEDED, message="reply too large")
            frame = self._speaks.answer(command.id, outcome)
        if is_connect and isinstance(outcome, frames.Error):
            self._rules.refused()
            self._channels.drop_all()
            if self._speaks.is_one_way:
                outcome = one_way.disconnect_for(outcome)
        if isinstance(outcome, frames.DisconnectPush):
            self._channels.drop_all()
            self.end(outcome)
        if is_connect:
            self._session.actor.release(frame)
        elif frame is not None:
            await self._session.actor.send(frame, size_of(frame))

    @property
    def _most_bytes(self) -> int:
        """Most bytes of one reply."""
        return self._broker.limits.max_outbox_bytes // 2

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
                await self._channels.leave(channel)
                return frames.UnsubscribeResult()
            case frames.Publish() as request:
                return await self._channels.publish(request)
            case frames.Presence(channel):
                self._channels.check_reads(channel, of="presence")
                return frames.PresenceResult(await members_of(self._broker, channel))
            case frames.PresenceStats(channel):
                self._channels.check_reads(channel, of="presence")
                members = await members_of(self._broker, channel)
                users = {info.user for info in members.values()}
                return frames.PresenceStatsResult(len(members), len(users))
            case frames.History() as request:
                self._channels.check_reads(request.channel, of="history")
                most = self._protocol.max_history
                return await history_of(self._broker, request, most, self._speaks)
            case frames.Rpc(method, data):
                if self._protocol.rpc is None:
                    return Errors.NOT_AVAILABLE
                text = connecting.text_of(self._channels, data)
                answer = await self._protocol.rpc(self._session, method, text)
                return frames.RpcResult(self._speaks.raw(rpc_answer(answer)))
            case frames.Send(data):
                if self._protocol.message is None:
                    return Disconnects.NOT_AVAILABLE
                text = connecting.text_of(self._channels, data)
                await self._protocol.message(self._session, text)
                return None
            case frames.Refresh(token):
                return self._lease.refresh(token)
            case frames.SubRefresh(channel, token):
                return self._channels.refresh(channel, token)
        raise AssertionError("every command is handled")  # pragma: no cover

    async def _connect(self, request: frames.Connect) -> frames.Result | tokens.Refusal:
        welcome = await connecting.connect(self._channels, request)
        if not isinstance(welcome, connecting.Welcome):
            return welcome
        self._lease.expires_at = welcome.expires_at
        self._rules.connected(anyio.current_time())
        result, address = welcome.result, self._address
        if address is None:
            return result
        return structs.replace(result, session=address.session, node=address.node)

    async def _subscribe(
        self, number: int, request: frames.Subscribe
    ) -> tokens.Refusal | None:
        channels, session = self._channels, self._session
        if not request.channel:
            return Disconnects.BAD_REQUEST
        channels.check(request.channel)
        grant: tokens.SubscribeGrant | tokens.Refusal
        if request.token:
            grant = tokens.subscribe(
                self._protocol.tokens,
                request.token,
                channel=request.channel,
                user=session.user or "",
                client=session.client_id,
                now=self._protocol.clock(),
            )
            if not isinstance(grant, tokens.SubscribeGrant):
                return grant
        else:
            grant = await connecting.authorize(channels, request.channel, request.data)

        def greet(result: frames.SubscribeResult) -> list[Payload]:
            return [self._speaks.reply(frames.Reply(number, result))]

        await channels.subscribe(request, grant, greet=greet)
        return None  # the greeting was the reply
