"""What tokens claim, and what a client may do by them.

A ``TokenVerifier`` answers for a token's signature and times. The functions here turn
what it says into a grant, or into what the client is told instead. All of them are
pure; time comes in as ``now`` (s, Unix).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from broker.errors import BrokerError

from .codec import raw_json
from .codes import Disconnects, Errors
from .frames import NO_DATA, DisconnectPush, Error

__all__ = (
    "ConnectClaims",
    "ConnectGrant",
    "Flag",
    "Override",
    "Refusal",
    "SubscribeClaims",
    "SubscribeGrant",
    "SubscribeOptions",
    "TokenExpired",
    "TokenInvalid",
    "TokenVerifier",
    "check_registered",
    "connect",
    "refresh",
    "sub_refresh",
    "subscribe",
    "ttl_s",
)

MAX_TTL_S = 2**32 - 1  # uint32 in the schema

Refusal: TypeAlias = Error | DisconnectPush
# RFC 7519, section 2: NumericDate may have a fraction. A whole number reads as well.
Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=2**53)]
T = TypeVar("T")


class TokenInvalid(BrokerError):
    """A token proves nothing. The message holds nothing of it: fit for a log."""


class TokenExpired(BrokerError):
    """A genuine token whose time is over, or has not come: ask for another."""


class TokenVerifier(Protocol):
    """Tells genuine tokens from others. Bounded work, no await, no clock."""

    def verify(self, token: str, *, now: float) -> bytes:
        """Return the claims, a JSON object, of a genuine token that is valid now.

        Args:
            token: from a client: anything of any length.
            now: the time (s, Unix).

        Raises:
            TokenInvalid: not genuine, or not meant for us.
            TokenExpired: genuine, but over, or not to be used yet.
        """
        ...


# --- Claims ---


class Claims(msgspec.Struct, frozen=True):
    """A JSON object with unknown fields ignored; null is absent."""


class Registered(Claims, frozen=True):
    """Claims of RFC 7519, section 4.1, that say whether a token counts at all."""

    exp: Time | None = None
    nbf: Time | None = None
    aud: str | list[str] | None = None
    iss: str | None = None


class Flag(Claims, frozen=True):
    """A setting that is made, as opposed to one that is left alone."""

    value: bool = False


class Override(Claims, frozen=True):
    """Settings of a subscription that a token makes; None leaves the topic's own."""

    presence: Flag | None = None
    join_leave: Flag | None = None
    force_push_join_leave: Flag | None = None
    force_recovery: Flag | None = None
    force_positioning: Flag | None = None


class SubscribeOptions(Claims, frozen=True, kw_only=True):
    """What a token says of one subscription.

    Attributes:
        info: about the client, to others in the channel.
        b64info: the same as Base64; goes before ``info``.
        data: for the client, with the reply.
        b64data: the same as Base64; goes before ``data``.
    """

    info: Raw = NO_DATA
    b64info: str | None = None
    data: Raw = NO_DATA
    b64data: str | None = None
    override: Override | None = None


class ConnectClaims(Claims, frozen=True, kw_only=True):
    """Claims of a connection token.

    Attributes:
        sub: the user; "" is an anonymous one.
        exp: until when the token counts (s, Unix).
        nbf: since when (s, Unix).
        iat: when it was made (s, Unix); says nothing here.
        info: about the client, to others.
        b64info: the same as Base64; goes before ``info``.
        channels: server-side subscriptions; not permissions. ``subs`` goes before it.
        subs: {channel: its options}, server-side subscriptions.
        meta: for the server only.
        expire_at: when the connection expires, if not at ``exp`` (s, Unix; 0 = never).
        channel: must be absent: a subscription token is not to open a connection.
    """

    sub: str | None = None
    exp: Time | None = None
    nbf: Time | None = None
    iat: Time | None = None
    info: Raw = NO_DATA
    b64info: str | None = None
    channels: list[str] | None = None
    subs: dict[str, SubscribeOptions] | None = None
    meta: Raw = NO_DATA
    expire_at: Time | None = None
    channel: str | None = None


class SubscribeClaims(SubscribeOptions, frozen=True, kw_only=True):
    """Claims of a subscription token; times as in ``ConnectClaims``.

    Attributes:
        sub: must be the connection's user.
        channel: must be the request's.
        client: legacy: must be the connection, if given; then ``sub`` may be absent.
    """

    sub: str | None = None
    channel: str | None = None
    client: str | None = None
    exp: Time | None = None
    nbf: Time | None = None
    iat: Time | None = None
    expire_at: Time | None = None


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (Registered, ConnectClaims, SubscribeClaims)
}


def _decode(claims: bytes, kind: type[T]) -> T:
    try:
        claims.decode()  # msgspec.Raw takes any bytes inside strings
        read = _DECODERS[kind].decode(claims)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise TokenInvalid("claims are not what they should be") from error
    assert isinstance(read, kind)
    return read


def check_registered(
    claims: bytes,
    *,
    now: float,
    leeway_s: float = 0,
    audience: str | None = None,
    issuer: str | None = None,
) -> None:
    """Check a genuine token's time and addressee: the second half of a verifier.

    A token that is not to be used *yet* counts as expired, as in the reference: its
    client then fetches another, and is not sent away over a clock that is ahead.

    Args:
        claims: a JSON object, as signed.
        now: the time (s, Unix).
        leeway_s: how far clocks may be apart (s, >= 0).
        audience: must be among ``aud``; None does not look.
        issuer: must be ``iss``; None does not look.

    Raises:
        TokenInvalid: not a JSON object, claims of wrong types, or not meant for us.
        TokenExpired: ``now`` is at or after ``exp``, or before ``nbf``.
    """
    read = _decode(claims, Registered)
    # Before the times: who may not come at all is not asked for a fresh token.
    if audience is not None:
        given = [read.aud] if isinstance(read.aud, str) else read.aud or []
        if audience not in given:
            raise TokenInvalid("meant for another audience")
    if issuer is not None and read.iss != issuer:
        raise TokenInvalid("made by another issuer")
    # RFC 7519, sections 4.1.4 and 4.1.5: not "on or after" exp, not before nbf.
    if read.exp is not None and now >= read.exp + leeway_s:
        raise TokenExpired("the token has expired")
    if read.nbf is not None and now < read.nbf - leeway_s:
        raise TokenExpired("the token is not valid yet")


# --- Grants ---


class SubscribeGrant(msgspec.Struct, frozen=True):
    """A subscription that a token allows.

    Attributes:
        info: about the client, to others in the channel; ``NO_DATA`` for none.
        data: for the client; ``NO_DATA`` for none.
        override: settings that the token makes.
        expires_at: when it is to be refreshed (s, Unix); None for never.
    """

    info: Raw = NO_DATA
    data: Raw = NO_DATA
    override: Override = Override()
    expires_at: float | None = None

    def ttl_s(self, now: float) -> int:
        """Return the result's ``ttl`` (s, >= 1); 0 for never."""
        return ttl_s(self.expires_at, now)


class ConnectGrant(msgspec.Struct, frozen=True):
    """A connection that a token allows.

    Attributes:
        user: "" for an anonymous one.
        info: about the client, to others; ``NO_DATA`` for none.
        subs: {channel: its grant}, server-side subscriptions.
        meta: for the server only; ``NO_DATA`` for none.
        expires_at: when it is to be refreshed (s, Unix); None for never.
    """

    user: str = ""
    info: Raw = NO_DATA
    subs: Mapping[str, SubscribeGrant] = msgspec.field(default_factory=dict)
    meta: Raw = NO_DATA
    expires_at: float | None = None

    def ttl_s(self, now: float) -> int:
        """Return the result's ``ttl`` (s, >= 1); 0 for never."""
        return ttl_s(self.expires_at, now)


def ttl_s(expires_at: float | None, now: float) -> int:
    """Return the time left as the protocol has it (s, >= 1); 0 for no end."""
    # At least 1: 0 would be left out, and the client would never refresh.
    return 0 if expires_at is None else int(min(max(expires_at - now, 1), MAX_TTL_S))


def connect(
    verifier: TokenVerifier | None, token: str, *, now: float, anonymous: bool = False
) -> ConnectGrant | Refusal:
    """Return what a connect command's token allows.

    Args:
        verifier: None if no tokens are accepted: then every token is invalid.
        token: "" for none.
        anonymous: clients without a token are welcome, as the user "".

    Returns:
        The grant; ``TOKEN_EXPIRED`` (109: the client fetches another); ``EXPIRED``
        (110) where ``expire_at`` is over; to disconnect with ``INVALID_TOKEN`` (3500)
        or, without a token, ``BAD_REQUEST`` (3501).
    """
    if not token:
        return ConnectGrant() if anonymous else Disconnects.BAD_REQUEST
    return _connection(verifier, token, now, Errors.TOKEN_EXPIRED)


def refresh(
    verifier: TokenVerifier | None, token: str, *, user: str, now: float
) -> ConnectGrant | Refusal:
    """Return what a refresh command's token allows: the same user, for longer.

    Returns:
        The grant; ``EXPIRED`` (110); to disconnect with ``INVALID_TOKEN`` (3500), also
        for another user's token, or, without a token, ``BAD_REQUEST`` (3501).
    """
    if not token:
        return Disconnects.BAD_REQUEST
    grant = _connection(verifier, token, now, Errors.EXPIRED)
    if isinstance(grant, ConnectGrant) and grant.user != user:
        return Disconnects.INVALID_TOKEN
    return grant


def subscribe(
    verifier: TokenVerifier | None,
    token: str,
    *,
    channel: str,
    user: str,
    client: str,
    now: float,
) -> SubscribeGrant | Refusal:
    """Return what a subscribe command's token allows; without one, ask someone else.

    Returns:
        The grant; ``TOKEN_EXPIRED`` (109: the client fetches another);
        ``PERMISSION_DENIED`` (103) for an invalid token; ``EXPIRED`` (110) where
        ``expire_at`` is over; to disconnect with ``INVALID_TOKEN`` (3500) for a
        genuine token of another channel, user or client.
    """
    return _subscription(
        verifier,
        token,
        (channel, user, client),
        now,
        expired=Errors.TOKEN_EXPIRED,
        invalid=Errors.PERMISSION_DENIED,
    )


def sub_refresh(
    verifier: TokenVerifier | None,
    token: str,
    *,
    channel: str,
    user: str,
    client: str,
    now: float,
) -> SubscribeGrant | Refusal:
    """Return what a sub_refresh command's token allows: the same, for longer.

    Returns:
        The grant; ``EXPIRED`` (110); to disconnect with ``INVALID_TOKEN`` (3500) or,
        without a token, ``BAD_REQUEST`` (3501).
    """
    if not token:
        return Disconnects.BAD_REQUEST
    return _subscription(
        verifier,
        token,
        (channel, user, client),
        now,
        expired=Errors.EXPIRED,
        invalid=Disconnects.INVALID_TOKEN,
    )


def _claims(verifier: TokenVerifier | None, token: str, now: float, kind: type[T]) -> T:
    if verifier is None:
        raise TokenInvalid("no tokens are accepted")
    return _decode(verifier.verify(token, now=now), kind)


def _connection(
    verifier: TokenVerifier | None, token: str, now: float, expired: Error
) -> ConnectGrant | Refusal:
    try:
        claims = _claims(verifier, token, now, ConnectClaims)
        if claims.channel:
            return Disconnects.INVALID_TOKEN
        options = claims.subs or dict.fromkeys(
            claims.channels or (), SubscribeOptions()
        )
        grant = ConnectGrant(
            user=claims.sub or "",
            info=_value(claims.info, claims.b64info),
            subs={channel: _grant(given, None) for channel, given in options.items()},
            meta=claims.meta,
            expires_at=_expires_at(claims),
        )
    except TokenExpired:
        return expired
    except TokenInvalid:
        return Disconnects.INVALID_TOKEN
    return Errors.EXPIRED if _is_over(claims, now) else grant


def _subscription(
    verifier: TokenVerifier | None,
    token: str,
    asked: tuple[str, str, str],
    now: float,
    *,
    expired: Error,
    invalid: Refusal,
) -> SubscribeGrant | Refusal:
    try:
        claims = _claims(verifier, token, now, SubscribeClaims)
        grant = _grant(claims, _expires_at(claims))
    except TokenExpired:
        return expired
    except TokenInvalid:
        return invalid
    if not _matches(claims, *asked):
        return Disconnects.INVALID_TOKEN
    return Errors.EXPIRED if _is_over(claims, now) else grant


def _matches(claims: SubscribeClaims, channel: str, user: str, client: str) -> bool:
    if not claims.channel or claims.channel != channel:
        return False
    if claims.client:
        return claims.client == client and claims.sub in (None, user)
    return (claims.sub or "") == user


def _grant(options: SubscribeOptions, expires_at: float | None) -> SubscribeGrant:
    return SubscribeGrant(
        info=_value(options.info, options.b64info),
        data=_value(options.data, options.b64data),
        override=options.override or Override(),
        expires_at=expires_at,
    )


def _value(raw: Raw, base64: str | None) -> Raw:
    if not base64:
        return raw
    try:
        return raw_json(b64decode(base64, validate=True))
    except ValueError as error:
        raise TokenInvalid("a claim is not Base64") from error


def _expires_at(claims: ConnectClaims | SubscribeClaims) -> float | None:
    if claims.expire_at is None:
        return claims.exp
    return claims.expire_at if claims.expire_at > 0 else None


def _is_over(claims: ConnectClaims | SubscribeClaims, now: float) -> bool:
    # Not exp: that is the verifier's to judge, who may allow a leeway.
    return claims.expire_at is not None and 0 < claims.expire_at <= now
