"""The server API: what other programs ask of a broker, and how it is carried out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import anyio.lowlevel
from msgspec import Raw

from . import orders, survey
from .broker import Broker
from .client_protocol import ClientError, rpc_answer
from .client_queries import history_of, members_of
from .ending import Ending, EndKind
from .errors import BrokerError, UsageError
from .message import Payload, Position
from .protocol import api, codec, frames
from .protocol.codes import Disconnects, Errors, error_for
from .topics import check_topic

__all__ = ("Answer", "ApiRpc", "ServerApi")

logger = logging.getLogger("broker")

ApiRpc: TypeAlias = Callable[[str, str], Awaitable[Payload]]
_Handler: TypeAlias = Callable[[Any], Awaitable[api.Outcome]]

CUSTOM_CODES = range(3000, 5000)  # of disconnections; others close no WebSocket here
EXPIRED: Final = Disconnects.CONNECTION_EXPIRED
_INTERNAL: Final = frames.Error(100, Errors.INTERNAL.message)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with.

    Attributes:
        body: JSON.
        error: why nothing was done; None for a result. What a part of a batch or a
            broadcast met is in the body only.
    """

    body: bytes
    error: frames.Error | None = None


class ServerApi:
    """Carries out the requests of Centrifugo's server API on one broker.

    Whoever may call it may do anything: neither the rules' ``publish`` nor a hook is
    asked. What it does to sessions it does on all nodes.

    Args:
        name: of this node, for ``info`` on any node; "" for a random one.
        version: of the application, likewise.
        rpc: answers ``rpc(method, params)``; params is JSON text, and so is what it
            returns. It may raise ``ClientError``. None: error 108.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        name: str = "",
        version: str = "asgi-broker",
        rpc: ApiRpc | None = None,
    ) -> None:
        self._broker = broker
        broker.nodes.name = name or broker.nodes.name
        broker.nodes.version = version
        self._rpc = rpc
        # {method: (its request, what carries that out)}
        self._methods: dict[str, tuple[type[Any], _Handler]] = {
            "publish": (api.Publish, self.publish),
            "broadcast": (api.Broadcast, self.broadcast),
            "subscribe": (api.Subscribe, self.subscribe),
            "unsubscribe": (api.Unsubscribe, self.unsubscribe),
            "disconnect": (api.Disconnect, self.disconnect),
            "refresh": (api.Refresh, self.refresh),
            "presence": (api.Presence, self.presence),
            "presence_stats": (api.Presence, self.presence_stats),
            "history": (api.History, self.history),
            "history_remove": (api.Presence, self.history_remove),
            "channels": (api.Channels, self.channels),
            "info": (api.Info, self.info),
            "rpc": (api.Rpc, self.rpc),
        }

    async def answer(self, method: str, body: bytes) -> Answer:
        """Carry out a request as it came and return its answer. Raises nothing.

        Args:
            method: such as ``publish``.
            body: of the request; whoever takes it from a network bounds it.

        Cancellation: of a batch or a broadcast, the first parts may be done.
        """
        await anyio.lowlevel.checkpoint()
        try:
            api.check_body(body)
            if method == "batch":
                return await self._batch(api.decode(body, api.Batch))
        except api.ApiError as error:
            return Answer(api.encode_outcome(error.error), error.error)
        outcome = await self._outcome(method, body)
        failed = outcome if isinstance(outcome, frames.Error) else None
        return Answer(api.encode_outcome(outcome), failed)

    async def publish(self, request: api.Publish) -> api.PublishResult:
        """Publish, unless the idempotency key was seen: then say where that stands.

        Raises:
            ApiError: no data, or what is not available.
            BrokerError: as ``Broker.publish``.
        """
        return await self._publish(request, request.channel)

    async def broadcast(self, request: api.Broadcast) -> api.BroadcastResult:
        """Publish to each channel in turn; one that is refused stops no other.

        Raises:
            ApiError: no channels, no data, or what is not available.
        """
        if not request.channels:
            raise api.bad_request("channels are missing")
        api.payload_of(request)
        responses = []
        for channel in request.channels:
            outcome = await self._attempt(partial(self._publish, request, channel))
            responses.append(
                api.Response(error=outcome)
                if isinstance(outcome, frames.Error)
                else api.Response(result=outcome)
            )
        return api.BroadcastResult(responses)

    async def subscribe(self, request: api.Subscribe) -> api.Done:
        """Subscribe a user's clients to a channel; they are told.

        Rules and hooks are not asked. One that is subscribed already stays as it is.

        Raises:
            ApiError: neither user nor client; a session; an override.
            BrokerError: as ``Broker.subscribe_client``.
        """
        _check_target(request)
        info, data = api.facts_of(request)
        since = request.recover_since
        await self._broker.subscribe_client(
            request.channel,
            user=request.user or None,
            client=request.client or None,
            since=None if since is None else Position(since.epoch, since.offset),
            info=info,
            data=data,
            expires_at=request.expire_at or None,
        )
        return api.Done()

    async def unsubscribe(self, request: api.Unsubscribe) -> api.Done:
        """End the subscriptions to a channel; clients of the protocol are told.

        They get an unsubscribe push with code 2000, after which SDKs do not subscribe
        again by themselves. Raises as ``Broker.unsubscribe_client``, and:

        Raises:
            ApiError: neither user nor client; a session.
        """
        _check_target(request)
        await self._broker.unsubscribe_client(
            request.channel, user=request.user or None, client=request.client or None
        )
        return api.Done()

    async def refresh(self, request: api.Refresh) -> api.Done:
        """Have a user's connections end at another time, or now.

        Raises:
            ApiError: neither user nor client; a session.
        """
        _check_target(request)
        user, client = request.user or None, request.client or None
        if request.expired:
            told = orders.Disconnect(user=user, client=client, code=EXPIRED.code)
            await self._broker.order(told)
        else:
            await self._broker.refresh_client(
                user=user, client=client, expires_at=request.expire_at or None
            )
        return api.Done()

    async def disconnect(self, request: api.Disconnect) -> api.Done:
        """End sessions; their clients are told why, behind what waits already.

        Raises:
            ApiError: neither user nor client; a session; a code that is none of the
                protocol's or the application's.
        """
        _check_target(request)
        told = request.disconnect or api.DisconnectTold()
        await self._broker.order(
            orders.Disconnect(
                user=request.user or None,
                client=request.client or None,
                code=_checked_code(told.code),
                reason=told.reason or None,
                spared=tuple(request.whitelist),
            )
        )
        return api.Done()

    async def presence(self, request: api.Presence) -> frames.PresenceResult:
        """Say who is in a channel, over all nodes.

        Raises:
            ApiError: the rules keep no presence.
            BrokerError: as ``Broker.presence``.
        """
        channel = request.channel
        check_topic(channel)
        if not self._broker.rules_of(channel).presence:
            raise api.ApiError(Errors.NOT_AVAILABLE, "the rules keep no presence")
        return frames.PresenceResult(await members_of(self._broker, channel))

    async def presence_stats(self, request: api.Presence) -> frames.PresenceStatsResult:
        """Say how many clients and users are in a channel; raises as ``presence``."""
        members = (await self.presence(request)).presence
        users = {info.user for info in members.values()}
        return frames.PresenceStatsResult(len(members), len(users))

    async def history(self, request: api.History) -> frames.HistoryResult:
        """Return a channel's last publications, and the position of its end.

        With ``reverse`` those before ``since``, newest first, as far as they are kept.

        Raises:
            ApiError: the rules keep no history.
            RecoveryImpossible: not all after ``since`` are kept, or another epoch.
            BrokerError: as ``Broker.history``.
        """
        channel, since = request.channel, request.since
        check_topic(channel)
        size = self._broker.rules_of(channel).history_size
        if not size:
            raise api.ApiError(Errors.NOT_AVAILABLE, "the rules keep no history")
        asked = frames.History(channel, request.limit, since, request.reverse)
        return await history_of(self._broker, asked, most=size)

    async def history_remove(self, request: api.Presence) -> api.Done:
        """Forget a channel's publications; it keeps its position.

        Raises:
            ApiError: the rules keep no history.
            BrokerError: as ``Broker.clear_history``.
        """
        channel = request.channel
        check_topic(channel)
        if not self._broker.rules_of(channel).history_size:
            raise api.ApiError(Errors.NOT_AVAILABLE, "the rules keep no history")
        await self._broker.clear_history(channel)
        return api.Done()

    async def channels(self, request: api.Channels) -> api.ChannelsResult:
        """Count the clients of each channel, over all nodes, by name, not by pattern.

        Raises:
            ApiError: a pattern that cannot be read; more than one node can send.
            BackplaneError: a node has not answered within 3 s.
        """
        found = await survey.channels(self._broker, request.pattern or "*")
        return api.ChannelsResult(
            {channel: api.ChannelInfo(count) for channel, count in found.items()}
        )

    async def info(self, _: api.Info) -> api.InfoResult:
        """Describe all nodes, this one first; without those that do not answer.

        Raises:
            BackplaneError: the others cannot be asked.
        """
        return api.InfoResult(await survey.info(self._broker))

    async def rpc(self, request: api.Rpc) -> frames.RpcResult:
        """Ask the application.

        Raises:
            ApiError: it takes no calls.
            ClientError: what it answers.
            Exception: whatever else it raises.
        """
        if self._rpc is None:
            raise api.ApiError(Errors.NOT_AVAILABLE, "no rpc handler")
        await anyio.lowlevel.checkpoint()
        params = bytes(request.params).decode() or "null"
        answer = await self._rpc(request.method, params)
        return frames.RpcResult(codec.raw_json(rpc_answer(answer)))

    async def _batch(self, request: api.Batch) -> Answer:
        # In order even where it may be parallel: publications keep theirs.
        replies: list[tuple[str, api.Outcome]] = []
        for command in request.commands:
            method, *others = command or ("",)
            if others:
                problem = api.bad_request("a command has one method")
                replies.append((method, problem.error))
            else:
                body = command.get(method, Raw(b"{}"))
                replies.append((method, await self._outcome(method, body)))
        return Answer(api.encode_batch(replies))

    async def _outcome(self, method: str, body: bytes | Raw) -> api.Outcome:
        """Carry out one request, of a checked body, that is no batch."""
        if method not in self._methods:
            return api.NOT_FOUND
        kind, handler = self._methods[method]

        async def run() -> api.Outcome:
            return await handler(api.decode(body, kind))

        return await self._attempt(run)

    async def _attempt(self, run: Callable[[], Awaitable[api.Outcome]]) -> api.Outcome:
        """Return what comes of it, be it an error."""
        try:
            return await run()
        except api.ApiError as error:
            return error.error
        except ClientError as error:
            return frames.Error(error.code, error.message)
        except BrokerError as error:
            told = error_for(error)
            if told is None and isinstance(error, UsageError):
                told = Errors.BAD_REQUEST
            if told is None or not self._broker.is_running:
                logger.warning("server API: %s", error)
                return _INTERNAL
            return api.ApiError(told, str(error)).error
        except Exception:
            logger.exception("server API: a request failed")
            return _INTERNAL

    async def _publish(
        self, request: api.Publishing, channel: str
    ) -> api.PublishResult:
        receipt = await self._broker.publish(
            channel,
            api.payload_of(request),
            message_id=request.idempotency_key or None,
            headers=api.headers_of(request),
        )
        if not self._broker.rules_of(channel).history_size:
            return api.PublishResult()  # of a stream that nobody can go back to
        return api.PublishResult(receipt.position.offset, receipt.position.epoch)


def _check_target(
    request: api.Subscribe | api.Unsubscribe | api.Disconnect | api.Refresh,
) -> None:
    """Refuse a request that does not say whose sessions it is about."""
    if request.session:
        raise api.ApiError(Errors.NOT_AVAILABLE, "session: name the client")
    if not request.user and not request.client:
        # Not all who are anonymous: that would be too easy to ask for by mistake.
        raise api.bad_request("user is missing, or client")


def _checked_code(code: int) -> int | None:
    if not code:
        return None
    if code not in CUSTOM_CODES:
        raise api.bad_request("a disconnect code is 3000 to 4999")
    usual = Ending.of(EndKind.DISCONNECTED).code
    if code == usual:
        # It stands for 3503 to clients of the protocol.
        raise api.bad_request(f"disconnect code {usual} is the broker's own")
    return code
