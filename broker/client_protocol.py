"""How an endpoint speaks the Centrifuge client protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

import msgspec

from .ending import Ending
from .errors import BrokerError
from .message import Gap, Item, Message, Payload
from .protocol import codec, frames, tokens
from .protocol.codes import disconnect_for
from .protocol.rules import ProtocolTimes
from .topics import PRESENCE_PREFIX, subject_of
from .wire import WireFormat

__all__ = ("CLIENT_WIRE", "ClientError", "ClientProtocol", "client_push")

# Not Callable[[Session[str], …]]: sessions import what this module imports.
RpcHandler: TypeAlias = Callable[..., Awaitable[Payload]]
MessageHandler: TypeAlias = Callable[..., Awaitable[None]]


class ClientError(BrokerError):
    """Raise it from a handler to answer a command with an error of your own.

    Attributes:
        code: 400 to 1999 are the application's.
        temporary: the client may try the same again.
    """

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.temporary = temporary


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientProtocol:
    """How an endpoint speaks the Centrifuge client protocol.

    Attributes:
        clock: the time (s, Unix), for tokens; such as ``time.time``.
        tokens: tells genuine tokens from others; None if none are accepted.
        anonymous: clients without a token, and without a user from ``authenticate``,
            are welcome.
        rpc: answers ``rpc(session, method, data)``; data is JSON text, and so is what
            it returns. None: error 108.
        message: takes ``message(session, data)``. None: disconnect 3508.
        times: deadlines.
        max_recovered: most publications that a client can recover; who has missed
            more is told so (300: Centrifugo's client.recovery_max_publication_limit).
        max_history: most publications of one history reply (300: likewise).
        max_commands: most commands in one frame (256: guess, twice the subscriptions
            that a client may have).
        max_depth: most JSON objects and arrays inside each other (128: guess).
        version: of the server, for the client.
    """

    clock: Callable[[], float]
    tokens: tokens.TokenVerifier | None = None
    anonymous: bool = True
    rpc: RpcHandler | None = None
    message: MessageHandler | None = None
    times: ProtocolTimes = field(default_factory=ProtocolTimes)
    max_recovered: int = 300
    max_history: int = 300
    max_commands: int = 256
    max_depth: int = 128
    version: str = "asgi-broker"


def client_push(item: Item) -> str:
    """Return the push for an item: a publication, a join, a leave or a lost place."""
    if isinstance(item, Message) and item.topic.startswith(PRESENCE_PREFIX):
        news = msgspec.json.decode(item.payload)
        info = frames.ClientInfo(news["user"] or "", news["client_id"])
        body = (
            frames.JoinPush(info) if news["event"] == "join" else frames.LeavePush(info)
        )
        return codec.encode_push(frames.Push(news["topic"], body))
    if isinstance(item, Gap):  # of joins and leaves: their channel begins anew
        item = replace(item, topic=subject_of(item.topic))
    return codec.publication_push(item)


def _close(ending: Ending) -> tuple[int, str]:
    told = disconnect_for(ending)
    return told.code, told.reason


def _join(lines: list[Payload]) -> Payload:
    return "\n".join(cast("list[str]", lines))


CLIENT_WIRE = WireFormat(encode=client_push, join=_join, close=_close)
