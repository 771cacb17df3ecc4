"""What nodes tell each other: to do something to clients, and words of their own."""

from __future__ import annotations

import json
from math import isfinite
from typing import Annotated, TypeAlias

import msgspec

from .driver import ServerSubscription
from .message import Position
from .state.checks import check_client, check_start, check_user

__all__ = (
    "MAX_NAMES",
    "MAX_NAME_CHARS",
    "Answer",
    "Disconnect",
    "Gone",
    "Here",
    "Order",
    "Question",
    "Refresh",
    "Subscribe",
    "Unsubscribe",
    "Word",
    "decode",
    "encode",
)


# What another node may say of itself is kept for a while; the rest is done and let go
# of (guesses; ids are 32 characters).
MAX_ID_CHARS = 64
MAX_NAMES = 64
MAX_NAME_CHARS = 255

_Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]
_Names: TypeAlias = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=MAX_NAMES)]


class _Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose sessions: those of a user, of a client, or of a client if it is theirs."""

    user: str | None = None
    client: str | None = None

    def __post_init__(self) -> None:
        check_user(self.user)
        check_client(self.client)


class Disconnect(_Order, frozen=True, kw_only=True, tag="disconnect"):
    """End sessions.

    Attributes:
        code: for their clients; None for the usual one.
        reason: likewise.
        spared: clients that stay.
    """

    code: int | None = None
    reason: str | None = None
    spared: tuple[str, ...] = ()


class Subscribe(_Order, frozen=True, kw_only=True, tag="subscribe"):
    """Subscribe clients; fields as in ``ServerSubscription``."""

    topic: str
    info: str = ""
    data: str = ""
    since: Position | None = None
    expires_at: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_start(self.since)

    def subscription(self) -> ServerSubscription:
        """Return what each client is to get."""
        return ServerSubscription(
            topic=self.topic,
            info=self.info,
            data=self.data,
            since=self.since,
            expires_at=self.expires_at,
        )


class Unsubscribe(_Order, frozen=True, kw_only=True, tag="unsubscribe"):
    """End subscriptions."""

    topic: str


class Refresh(_Order, frozen=True, kw_only=True, tag="refresh"):
    """Have connections end at that time (s, Unix); None for never."""

    expires_at: float | None = None


class Here(msgspec.Struct, frozen=True, kw_only=True, tag="here"):
    """A node is there.

    Attributes:
        node: its id.
        names: those that it answers to.
    """

    node: _Id
    names: _Names = ()


class Gone(msgspec.Struct, frozen=True, kw_only=True, tag="gone"):
    """A node leaves."""

    node: _Id


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """Something that every node is to answer that has the name.

    Attributes:
        node: who asks.
        number: of the question, among those of the node.
    """

    node: _Id
    number: int
    name: str
    text: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """What one node says to a question.

    Attributes:
        node: who answers.
        to: who has asked.
        number: of the question.
        text: None if it cannot say.
    """

    node: _Id
    to: str
    number: int
    text: str | None = None


Order: TypeAlias = Disconnect | Subscribe | Unsubscribe | Refresh
Word: TypeAlias = Here | Gone | Question | Answer


def encode(news: Order | Word) -> bytes:
    """Return news for other nodes."""
    # Python's own JSON: it carries any str, also what no UTF-8 has a place for.
    return json.dumps(msgspec.to_builtins(news)).encode()


def decode(news: bytes) -> Order | Word:
    """Return what another node has encoded.

    Raises:
        ValueError: it is nothing that this version knows.
    """
    try:
        found: Order | Word = msgspec.convert(json.loads(news), Order | Word)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if isinstance(found, Refresh) and not isfinite(found.expires_at or 0.0):
        raise ValueError("expires_at is no time")
    return found
