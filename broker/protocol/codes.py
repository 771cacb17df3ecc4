"""The numbers of the Centrifuge client protocol, and what each says in plain words.

The values are frames: an error goes into a ``Reply``, an unsubscription into a
``Push``, a disconnection into a close frame or, where there is none, into a ``Push``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.ending import MAX_REASON_BYTES, Ending, EndKind
from broker.errors import (
    BackplaneError,
    BrokerClosed,
    BrokerError,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    NotAllowed,
    RecoveryImpossible,
)

from .frames import DisconnectPush, Error, UnsubscribePush

__all__ = (
    "DISCONNECTS",
    "ERRORS",
    "UNSUBSCRIBES",
    "Disconnects",
    "Errors",
    "Unsubscribes",
    "disconnect_for",
    "error_for",
    "is_resubscribed",
    "is_retried",
    "is_terminal",
    "plain_reason",
)


class Errors:
    """Why commands fail. An application's own codes are 400 to 1999."""

    INTERNAL: Final = Error(100, "internal server error", temporary=True)
    UNAUTHORIZED: Final = Error(101, "unauthorized")
    UNKNOWN_CHANNEL: Final = Error(102, "unknown channel")
    PERMISSION_DENIED: Final = Error(103, "permission denied")
    METHOD_NOT_FOUND: Final = Error(104, "method not found")
    ALREADY_SUBSCRIBED: Final = Error(105, "already subscribed")
    LIMIT_EXCEEDED: Final = Error(106, "limit exceeded")
    BAD_REQUEST: Final = Error(107, "bad request")
    NOT_AVAILABLE: Final = Error(108, "not available")
    TOKEN_EXPIRED: Final = Error(109, "token expired")
    EXPIRED: Final = Error(110, "expired")
    TOO_MANY_REQUESTS: Final = Error(111, "too many requests", temporary=True)
    UNRECOVERABLE_POSITION: Final = Error(112, "unrecoverable position")
    CONCURRENT_PAGINATION: Final = Error(113, "concurrent pagination", temporary=True)


class Disconnects:
    """Why connections end. An application's own codes are 4000 to 4999."""

    CONNECTION_CLOSED: Final = DisconnectPush(3000, "connection closed")
    SHUTDOWN: Final = DisconnectPush(3001, "shutdown")
    INTERNAL: Final = DisconnectPush(3004, "internal server error")
    CONNECTION_EXPIRED: Final = DisconnectPush(3005, "connection expired")
    SUBSCRIPTION_EXPIRED: Final = DisconnectPush(3006, "subscription expired")
    SLOW: Final = DisconnectPush(3008, "slow")
    WRITE_ERROR: Final = DisconnectPush(3009, "write error")
    INSUFFICIENT_STATE: Final = DisconnectPush(3010, "insufficient state")
    FORCE_RECONNECT: Final = DisconnectPush(3011, "force reconnect")
    NO_PONG: Final = DisconnectPush(3012, "no pong")
    TOO_MANY_REQUESTS: Final = DisconnectPush(3013, "too many requests")
    STATE_INVALIDATED: Final = DisconnectPush(3014, "state invalidated")
    INVALID_TOKEN: Final = DisconnectPush(3500, "invalid token")
    BAD_REQUEST: Final = DisconnectPush(3501, "bad request")
    STALE: Final = DisconnectPush(3502, "stale")
    FORCE_DISCONNECT: Final = DisconnectPush(3503, "force disconnect")
    CONNECTION_LIMIT: Final = DisconnectPush(3504, "connection limit")
    CHANNEL_LIMIT: Final = DisconnectPush(3505, "channel limit")
    INAPPROPRIATE_PROTOCOL: Final = DisconnectPush(3506, "inappropriate protocol")
    PERMISSION_DENIED: Final = DisconnectPush(3507, "permission denied")
    NOT_AVAILABLE: Final = DisconnectPush(3508, "not available")
    TOO_MANY_ERRORS: Final = DisconnectPush(3509, "too many errors")

    # Not of the protocol's range: RFC 6455, section 7.4.1.
    MESSAGE_TOO_LARGE: Final = DisconnectPush(1009, "message size limit")


class Unsubscribes:
    """Why subscriptions end.

    An application's own codes are 2000 to 2999, without 2000-2099 and 2500-2599.
    """

    CLIENT: Final = UnsubscribePush(0, "client unsubscribed")  # never sent
    DISCONNECT: Final = UnsubscribePush(1, "client disconnected")  # never sent
    SERVER: Final = UnsubscribePush(2000, "server unsubscribe")
    INSUFFICIENT_STATE: Final = UnsubscribePush(2500, "insufficient state")
    EXPIRED: Final = UnsubscribePush(2501, "subscription expired")
    STATE_INVALIDATED: Final = UnsubscribePush(2502, "state invalidated")


ERRORS: Final[Mapping[int, Error]] = MappingProxyType(
    {value.code: value for value in vars(Errors).values() if isinstance(value, Error)}
)
DISCONNECTS: Final[Mapping[int, DisconnectPush]] = MappingProxyType(
    {
        value.code: value
        for value in vars(Disconnects).values()
        if isinstance(value, DisconnectPush)
    }
)
UNSUBSCRIBES: Final[Mapping[int, UnsubscribePush]] = MappingProxyType(
    {
        value.code: value
        for value in vars(Unsubscribes).values()
        if isinstance(value, UnsubscribePush)
    }
)

# {how a session ended: what its client is told}. A terminal code keeps a client away
# until its user acts, so only what would happen again at once gets one; where in
# doubt, the client comes back, with its SDK's growing delay.
_DISCONNECTS: dict[EndKind, DisconnectPush] = {
    # A burst, over soon: come back.
    EndKind.BYTE_RATE: Disconnects.TOO_MANY_REQUESTS,
    # Nobody is there to read it; in statistics it is a closed connection.
    EndKind.CLIENT_LEFT: Disconnects.CONNECTION_CLOSED,
    # Sessions of this protocol do not complete by themselves: in doubt, come back.
    EndKind.COMPLETED: Disconnects.CONNECTION_CLOSED,
    # The application threw the client out; it gives its own code for anything else.
    EndKind.DISCONNECTED: Disconnects.FORCE_DISCONNECT,
    # No connect command in time: what the reference calls stale.
    EndKind.HELLO_TIMEOUT: Disconnects.STALE,
    # Not even pongs came, or pings are off: a dead link either way.
    EndKind.IDLE: Disconnects.NO_PONG,
    # Commands faster than they are handled: a rate, as above.
    EndKind.INBOX_FULL: Disconnects.TOO_MANY_REQUESTS,
    # Our fault: come back.
    EndKind.INTERNAL_ERROR: Disconnects.INTERNAL,
    # The same name would be as wrong again. Most are error 107 and end no session.
    EndKind.INVALID_TOPIC: Disconnects.BAD_REQUEST,
    # Of topics or subscriptions: the same set would be too large again.
    EndKind.LIMIT_EXCEEDED: Disconnects.CHANNEL_LIMIT,
    # A burst, over soon: come back.
    EndKind.MESSAGE_RATE: Disconnects.TOO_MANY_REQUESTS,
    # What WebSocket says itself, and centrifuge-js knows it (as terminal).
    EndKind.MESSAGE_TOO_LARGE: Disconnects.MESSAGE_TOO_LARGE,
    # A hook's or token's no stays a no.
    EndKind.NOT_ALLOWED: Disconnects.PERMISSION_DENIED,
    # A page's origin does not change. Most are HTTP 403 before any frame.
    EndKind.ORIGIN_NOT_ALLOWED: Disconnects.PERMISSION_DENIED,
    # The server's memory, not this client's slowness: another node may have room.
    EndKind.OVER_BUDGET: Disconnects.INTERNAL,
    # This node is full; 3504 would keep everybody away after one crowded moment.
    EndKind.SESSIONS: Disconnects.TOO_MANY_REQUESTS,
    # Neighbours behind one address are not to be locked out by each other.
    EndKind.SESSIONS_OF_HOST: Disconnects.TOO_MANY_REQUESTS,
    # As the reference's user_connection_limit: the tab too many must not keep trying.
    EndKind.SESSIONS_OF_USER: Disconnects.CONNECTION_LIMIT,
    EndKind.SHUTDOWN: Disconnects.SHUTDOWN,
    # What is heard of an idle client of this protocol are its pongs.
    EndKind.SILENT: Disconnects.NO_PONG,
    # The reference's word for an outbox that overflowed: recover on return.
    EndKind.SLOW_CONSUMER: Disconnects.SLOW,
    # A write that did not end in time has failed.
    EndKind.STALLED: Disconnects.WRITE_ERROR,
    # A client that sends binary to the JSON form will do so again.
    EndKind.WRONG_FRAME_TYPE: Disconnects.BAD_REQUEST,
}


_ERRORS: tuple[tuple[type[BrokerError], Error], ...] = (
    (NotAllowed, Errors.PERMISSION_DENIED),
    (InvalidTopic, Errors.BAD_REQUEST),
    (MessageTooLarge, Errors.BAD_REQUEST),
    (LimitExceeded, Errors.LIMIT_EXCEEDED),
    (RecoveryImpossible, Errors.UNRECOVERABLE_POSITION),
    (BackplaneError, Errors.INTERNAL),  # temporary: the client tries again
    (BrokerClosed, Errors.INTERNAL),
)


def error_for(error: BrokerError) -> Error | None:
    """Return how a command is answered that failed so; None if that ends more."""
    for cause, told in _ERRORS:
        if isinstance(error, cause):
            return told
    return None


def is_retried(error: Error) -> bool:
    """Return whether SDKs try the same command again by themselves.

    Otherwise a failed connect disconnects, a failed subscribe unsubscribes.
    """
    return error.code < 100 or error.temporary or error.code == 109


def is_terminal(code: int) -> bool:
    """Return whether SDKs stay away after this disconnect code.

    centrifuge-js also stays away after 1009, which the rule knows nothing of.
    """
    return 3500 <= code < 4000 or 4500 <= code < 5000


def is_resubscribed(code: int) -> bool:
    """Return whether SDKs subscribe again after this unsubscribe code."""
    return code >= 2500


def plain_reason(reason: str, default: str = "disconnected") -> str:
    """Return a close reason that no SDK mistakes: not empty, not JSON, not too long.

    centrifuge-js reads a reason as JSON if it can (``"404"``, ``"true"``), and takes
    no notice of a terminal code whose reason is empty.

    Args:
        reason: anybody's words; cut to 123 bytes of UTF-8 (RFC 6455, section 5.5).
        default: plain words: taken for an empty reason, put before one that is JSON.
    """
    text = _cut(reason.strip() or default)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _cut(f"{default}: {text}")


def _cut(text: str) -> str:
    data = text.encode("utf-8", "replace")[:MAX_REASON_BYTES]
    return data.decode(errors="ignore")


def disconnect_for(ending: Ending) -> DisconnectPush:
    """Return what a client of this protocol is told about the end of its session.

    A code or reason that the application chose stays; codes outside 3000-4999 are none
    that a client of this protocol could be told, except 1009.
    """
    usual = Ending.of(ending.kind)
    told = _DISCONNECTS[ending.kind]
    code, reason = told.code, told.reason
    if ending.code != usual.code and 3000 <= ending.code < 5000:
        code = ending.code
        reason = DISCONNECTS[code].reason if code in DISCONNECTS else reason
    if ending.reason != usual.reason:
        reason = plain_reason(ending.reason, reason)
    return DisconnectPush(code, reason)
