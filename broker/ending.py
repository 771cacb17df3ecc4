"""Why a session ended, and what its client is told: one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import (
    BrokerClosed,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    NotAllowed,
    OriginNotAllowed,
)

__all__ = ("MAX_REASON_BYTES", "EndKind", "Ending", "ending_for")

MAX_REASON_BYTES = 123  # RFC 6455, section 5.5: control frames carry 125 bytes


class EndKind(Enum):
    """The ways a session can end, or fail to begin.

    The value is its label in logs, statistics and metrics.
    """

    BYTE_RATE = "byte_rate"
    CLIENT_LEFT = "client_left"
    COMPLETED = "completed"
    DISCONNECTED = "disconnected"
    HELLO_TIMEOUT = "hello_timeout"
    IDLE = "idle"
    INBOX_FULL = "inbox_full"
    INTERNAL_ERROR = "internal_error"
    INVALID_TOPIC = "invalid_topic"
    LIMIT_EXCEEDED = "limit_exceeded"
    MESSAGE_RATE = "message_rate"
    MESSAGE_TOO_LARGE = "message_too_large"
    NOT_ALLOWED = "not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    OVER_BUDGET = "over_budget"
    SESSIONS = "sessions"
    SESSIONS_OF_HOST = "sessions_of_host"
    SESSIONS_OF_USER = "sessions_of_user"
    SHUTDOWN = "shutdown"
    SILENT = "silent"
    SLOW_CONSUMER = "slow_consumer"
    STALLED = "stalled"
    WRONG_FRAME_TYPE = "wrong_frame_type"


# {kind: (close code, default reason)}. 1xxx as RFC 6455 section 7.4.1 and the IANA
# registry mean them, 4xxx are ours. A browser shows both to its page's `onclose`.
_TABLE: dict[EndKind, tuple[int, str]] = {
    EndKind.BYTE_RATE: (4005, "more bytes per second than allowed"),
    EndKind.CLIENT_LEFT: (1000, "the client left"),
    EndKind.COMPLETED: (1000, "the server has finished"),
    EndKind.DISCONNECTED: (4000, "disconnected by the application"),
    EndKind.HELLO_TIMEOUT: (4001, "no first message in time"),
    EndKind.IDLE: (4002, "idle for too long"),
    EndKind.INBOX_FULL: (4007, "messages came faster than they could be handled"),
    EndKind.INTERNAL_ERROR: (1011, "internal error"),
    EndKind.INVALID_TOPIC: (1008, "invalid topic"),
    EndKind.LIMIT_EXCEEDED: (1008, "limit exceeded"),
    EndKind.MESSAGE_RATE: (4004, "more messages per second than allowed"),
    EndKind.MESSAGE_TOO_LARGE: (1009, "message too large"),
    EndKind.NOT_ALLOWED: (1008, "not allowed"),
    EndKind.ORIGIN_NOT_ALLOWED: (1008, "origin not allowed"),
    EndKind.OVER_BUDGET: (1013, "server out of queue memory, come back later"),
    EndKind.SESSIONS: (1013, "too many clients, come back later"),
    EndKind.SESSIONS_OF_HOST: (4010, "too many connections from this address"),
    EndKind.SESSIONS_OF_USER: (4011, "too many connections of this user"),
    EndKind.SHUTDOWN: (1012, "server restart, come back"),
    EndKind.SILENT: (4003, "nothing heard for too long"),
    EndKind.SLOW_CONSUMER: (4008, "slow consumer: resume from the last position"),
    EndKind.STALLED: (4009, "stalled: what was sent is not being read"),
    EndKind.WRONG_FRAME_TYPE: (1003, "unsupported frame type"),
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How one session ended.

    Attributes:
        kind: the cause, of bounded variety: fit for a metric's label.
        code: WebSocket close code (RFC 6455, section 7.4).
        reason: text for the client, at most 123 bytes of UTF-8.
    """

    kind: EndKind
    code: int
    reason: str

    @classmethod
    def of(
        cls, kind: EndKind, reason: str | None = None, *, code: int | None = None
    ) -> Ending:
        """Look the kind up in the table; ``reason`` and ``code`` override it."""
        table_code, table_reason = _TABLE[kind]
        text = table_reason if reason is None else reason
        cut = text.encode("utf-8", "replace")[:MAX_REASON_BYTES]
        return cls(
            kind, table_code if code is None else code, cut.decode(errors="ignore")
        )

    def __str__(self) -> str:
        # Escaped: a reason may hold what a client gave, and this goes into logs.
        return f"{self.kind.value} ({self.code}: {self.reason!a})"


_FAULTS: tuple[tuple[type[Exception], EndKind], ...] = (
    (InvalidTopic, EndKind.INVALID_TOPIC),
    (MessageTooLarge, EndKind.MESSAGE_TOO_LARGE),
    (LimitExceeded, EndKind.LIMIT_EXCEEDED),
    (OriginNotAllowed, EndKind.ORIGIN_NOT_ALLOWED),
    (NotAllowed, EndKind.NOT_ALLOWED),
    (BrokerClosed, EndKind.SHUTDOWN),
)


# {field of Limits: what exceeding it is}; others are LIMIT_EXCEEDED.
_LIMITS = {
    "max_sessions": EndKind.SESSIONS,
    "max_sessions_per_host": EndKind.SESSIONS_OF_HOST,
    "max_sessions_per_user": EndKind.SESSIONS_OF_USER,
}


def ending_for(error: Exception) -> Ending:
    """Return how a session ends that let this error happen.

    Errors that are not the client's doing become ``INTERNAL_ERROR``, whose reason
    tells the client nothing.
    """
    for cause, kind in _FAULTS:
        if isinstance(error, cause):
            if isinstance(error, LimitExceeded):
                kind = _LIMITS.get(error.name, kind)
            return Ending.of(kind, str(error))
    return Ending.of(EndKind.INTERNAL_ERROR)
