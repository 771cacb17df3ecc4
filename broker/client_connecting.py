"""What comes of a connect command: who the client is, and what it begins with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from .client_channels import Channels
from .client_protocol import Connected, Connecting, Subscribed
from .errors import BrokerError, NotAllowed
from .protocol import codec, frames, tokens
from .protocol.codes import Disconnects
from .protocol.personal import is_open_to, personal_channel

__all__ = ("Welcome", "authorize", "connect", "text_of")

logger = logging.getLogger("broker")


@dataclass(frozen=True, slots=True)
class Welcome:
    """A connection that begins.

    Attributes:
        expires_at: when it is over (s, Unix); None for never.
    """

    result: frames.ConnectResult
    expires_at: float | None


async def connect(
    channels: Channels, request: frames.Connect
) -> Welcome | tokens.Refusal:
    """Find out who a client is, and make the subscriptions that it begins with.

    The session's writer must be held: what is published there must come behind the
    result.

    Raises:
        BrokerError: a handler refuses the client, or a subscription cannot be made;
            the ones made before are there still.
    """
    session, protocol = channels.session, channels.protocol
    now = protocol.clock()
    has_word = session.user is not None or protocol.connect is not None
    grant = tokens.connect(
        protocol.tokens,
        request.token,
        now=now,
        anonymous=protocol.anonymous or has_word,
    )
    if not isinstance(grant, tokens.ConnectGrant):
        if not request.token:
            _say_why(channels)
        return grant
    if grant.user:
        channels.broker.identify(session, grant.user)
    said = await _ask(channels, request) or Connected()
    if said.user:
        channels.broker.identify(session, said.user)
    if not (session.user or request.token or protocol.anonymous):
        _say_why(channels)
        return Disconnects.BAD_REQUEST
    channels.conn_info = codec.raw_or_none(said.info) if said.info else grant.info
    expires_at = grant.expires_at if said.expires_at is None else said.expires_at
    # With a handler that prolongs it, its end is none of the client's business.
    is_told = expires_at is not None and protocol.refresh is None
    return Welcome(
        frames.ConnectResult(
            client=session.client_id,
            version=protocol.version,
            data=codec.raw_or_none(said.data),
            subs=await _subscribe(channels, request, _wanted(channels, grant, said)),
            ping=round(protocol.times.ping_s),
            pong=not channels.speaks.is_one_way,
            expires=is_told,
            ttl=tokens.ttl_s(expires_at, now) if is_told else 0,
        ),
        expires_at,
    )


async def authorize(
    channels: Channels, channel: str, data: msgspec.Raw = frames.NO_DATA
) -> tokens.SubscribeGrant:
    """Return what a subscription is to be that a client asks for without a token.

    Raises:
        NotAllowed: it may not have it.
        BrokerError: what the handler raises.
    """
    session, handler = channels.session, channels.protocol.subscribe
    if not is_open_to(channel, session.user):
        raise NotAllowed(f"{channel} is for others")
    await session.authorize(channel)
    if handler is None:
        return tokens.SubscribeGrant()
    text = text_of(channels, data)
    return _grant(await handler(session, channel, text) or Subscribed())


def text_of(channels: Channels, data: msgspec.Raw) -> str | bytes:
    """Return a client's data for the application; "null" if it gave none."""
    return channels.speaks.payload(data) if bytes(data) else "null"


def _say_why(channels: Channels) -> None:
    """Log what the client is not told, because a code is all that it gets."""
    logger.info(
        "session %a: refused, for it sent no token, and without one nobody is welcome "
        "(anonymous)",
        channels.session.client_id,
    )


async def _ask(channels: Channels, request: frames.Connect) -> Connected | None:
    handler = channels.protocol.connect
    if handler is None:
        return None
    connecting = Connecting(
        data=text_of(channels, request.data),
        name=request.name,
        version=request.version,
        headers=request.headers,
    )
    return await handler(channels.session, connecting)


def _wanted(
    channels: Channels, grant: tokens.ConnectGrant, said: Connected
) -> dict[str, tokens.SubscribeGrant]:
    """Return what the client begins with: by token, by the application, of its own."""
    wanted = dict(grant.subs)
    if isinstance(said.channels, Mapping):
        wanted |= {channel: _grant(how) for channel, how in said.channels.items()}
    else:
        wanted |= dict.fromkeys(said.channels, tokens.SubscribeGrant())
    namespace, user = channels.protocol.personal, channels.session.user
    if namespace is not None and user:
        wanted.setdefault(personal_channel(namespace, user), tokens.SubscribeGrant())
    return wanted


async def _subscribe(
    channels: Channels,
    request: frames.Connect,
    wanted: dict[str, tokens.SubscribeGrant],
) -> dict[str, frames.SubscribeResult]:
    results: dict[str, frames.SubscribeResult] = {}

    async def subscribe(channel: str, grant: tokens.SubscribeGrant) -> None:
        def keep(result: frames.SubscribeResult) -> list[str | bytes]:
            results[channel] = result
            return []

        since = request.subs.get(channel, frames.Subscribe())
        asked = msgspec.structs.replace(since, channel=channel, tf=None, flag=0)
        await channels.subscribe(asked, grant, greet=keep, is_server_side=True)

    for channel, grant in wanted.items():
        await subscribe(channel, grant)
    if channels.speaks.is_one_way:  # it has no other way to ask
        for channel in request.subs:
            if channel not in wanted:
                with suppress(BrokerError):
                    channels.check(channel)
                    data = request.subs[channel].data
                    await subscribe(channel, await authorize(channels, channel, data))
    return results


def _grant(said: Subscribed) -> tokens.SubscribeGrant:
    return tokens.SubscribeGrant(
        info=codec.raw_or_none(said.info),
        data=codec.raw_or_none(said.data),
        expires_at=said.expires_at,
    )
