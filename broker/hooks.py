"""Where an application takes part: plain async callables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .ending import Ending
from .message import Payload
from .transport import ConnectRequest

if TYPE_CHECKING:
    from .session import Session

    AnySession: TypeAlias = Session[Any]

__all__ = ("Hooks",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Callbacks of a broker; each may be left out.

    To refuse, raise ``NotAllowed(reason)``: the client is told the reason. Anything
    else that a hook raises is an internal error: it ends that client's session with
    1011, is logged with its traceback, and reaches nobody else.

    Attributes:
        authenticate: before a client is accepted. Returns the user, as text, or None
            for an anonymous client.
        authorize_subscribe: before a session subscribes; gets a topic or a pattern,
            and answers for all that the pattern covers.
        authorize_publish: before a session publishes.
        on_connect: after a session began, before its first message is read.
        on_unsubscribe: after a session stopped to receive a topic, for whatever reason;
            cannot refuse.
        on_disconnect: after a session ended, with the reason; has ``grace_s`` to run
            and cannot refuse.
    """

    authenticate: Callable[[ConnectRequest], Awaitable[str | None]] | None = None
    authorize_subscribe: Callable[[AnySession, str], Awaitable[None]] | None = None
    authorize_publish: Callable[[AnySession, str, Payload], Awaitable[None]] | None = (
        None
    )
    on_connect: Callable[[AnySession], Awaitable[None]] | None = None
    on_unsubscribe: Callable[[AnySession, str], Awaitable[None]] | None = None
    on_disconnect: Callable[[AnySession, Ending], Awaitable[None]] | None = None
