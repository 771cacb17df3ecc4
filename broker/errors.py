"""Every error the broker raises on purpose, sorted by who must act."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ending import Ending

__all__ = (
    "BackplaneError",
    "BackplaneUnsupported",
    "BrokerClosed",
    "BrokerError",
    "InvalidTopic",
    "LimitExceeded",
    "MessageTooLarge",
    "NotAllowed",
    "OriginNotAllowed",
    "RecoveryImpossible",
    "SessionEnded",
    "SlowConsumer",
    "TransportClosed",
    "UsageError",
)


class BrokerError(Exception):
    """Root of every error the broker raises on purpose."""


class UsageError(BrokerError):
    """The caller broke a documented rule. Nothing was changed."""


class InvalidTopic(UsageError):
    """A topic or pattern breaks the grammar. Nothing was changed.

    Attributes:
        topic: what was given, cut to 80 characters and escaped: safe to log.
        position: index of the first character at fault, 0 if the whole is at fault.
    """

    def __init__(self, topic: str, position: int, problem: str) -> None:
        self.topic = ascii(topic[:80])[1:-1]
        self.position = position
        super().__init__(f"invalid topic '{self.topic}': {problem}")


class MessageTooLarge(UsageError):
    """A payload is over the limit. Nothing was delivered to anyone."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"payload is {size_bytes} B; the limit is {limit_bytes} B")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class LimitExceeded(UsageError):
    """One more subscription, topic or session than the limit. Nothing was changed.

    Attributes:
        name: the field of ``Limits`` that was reached.
        limit: its value.
    """

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"{name} is {limit}, and all are in use")
        self.name = name
        self.limit = limit


class NotAllowed(BrokerError):
    """Authorization said no. Nothing was changed.

    Raise it from a hook to refuse.

    Attributes:
        reason: shown to the client: no secrets.
        authenticated: False for "who are you?" (HTTP 401), True for "not you" (403).
    """

    def __init__(
        self, reason: str = "not allowed", *, authenticated: bool = True
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.authenticated = authenticated


class OriginNotAllowed(NotAllowed):
    """A web page of another site wants to connect. Nothing was changed.

    Attributes:
        origin: of that page, cut to 200 characters and escaped: safe to log.
    """

    def __init__(self, origin: str) -> None:
        super().__init__("origin not allowed")
        self.origin = ascii(origin[:200])[1:-1]


class BrokerClosed(BrokerError):
    """The broker is draining or has closed; nothing was published or subscribed."""


class SlowConsumer(BrokerError):
    """This subscriber fell further behind than its overflow policy allows.

    What was queued before has been handed out; resume from the last position.
    """

    def __init__(self, problem: str = "the outbox is full") -> None:
        super().__init__(problem)


class SessionEnded(BrokerError):
    """The session is over, so this call did nothing.

    Inside ``open_session`` it need not be caught: the block ends quietly.

    Attributes:
        ending: why and with which close code.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"session ended: {ending}")
        self.ending = ending


class TransportClosed(BrokerError):
    """The client can no longer be reached: it has left, or the link has failed."""


class RecoveryImpossible(BrokerError):
    """History does not reach the position: reload state, then subscribe afresh."""


class BackplaneError(BrokerError):
    """The link to the other nodes failed; the message was not published."""


class BackplaneUnsupported(BackplaneError):
    """This backplane cannot run here; the message says which can."""
