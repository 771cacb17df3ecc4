"""How an endpoint speaks the Centrifuge client protocol, and what it asks of you."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import BrokerError, UsageError
from .message import Payload, no_headers
from .protocol import frames, tokens
from .protocol.rules import ProtocolTimes
from .state.checks import check_user

if TYPE_CHECKING:
    from .session import Session

    ClientSession: TypeAlias = Session[Any]

__all__ = (
    "ClientError",
    "ClientProtocol",
    "Connected",
    "Connecting",
    "EmulationAddress",
    "Subscribed",
    "client_error",
    "rpc_answer",
)


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


def client_error(error: frames.Error, problem: str = "") -> ClientError:
    """Return one of the protocol's errors to be raised, with what is wrong."""
    message = f"{error.message}: {problem}" if problem else error.message
    return ClientError(error.code, message, temporary=error.temporary)


def rpc_answer(answer: Payload) -> Payload:
    """Return what an rpc handler has returned, if it can be sent.

    Raises:
        TypeError: it is no text: the handler's fault, as whatever else it raises.
    """
    if not isinstance(answer, str | bytes):
        kind = type(answer).__name__
        raise TypeError(f"an rpc handler returns JSON text, not {kind}")
    return answer


@dataclass(frozen=True, slots=True)
class EmulationAddress:
    """Where a client sends what its own connection cannot carry.

    Attributes:
        session: which connection it is of; a secret of that client's.
        node: which server has it.
    """

    session: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting:
    """What a client says in its connect command.

    Attributes:
        data: "null" if it gave none.
        name: of the client's kind, as it says.
        version: of it.
        headers: stand-ins for those of HTTP that a browser cannot set.
    """

    data: Payload = "null"
    name: str = ""
    version: str = ""
    headers: Mapping[str, str] = field(default_factory=no_headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """What a subscription is to be.

    Attributes:
        info: JSON text about the client, for others in the channel; "" for none.
        data: JSON text for the client; "" for none.
        expires_at: when it is over (s, Unix); None for never.
    """

    info: str = ""
    data: str = ""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """What a connection is to be.

    Attributes:
        user: who it is; None for what is known already.
        info: JSON text about the client, for others; "" for the token's.
        data: JSON text for the client; "" for none.
        channels: that the client is subscribed to, with the token's; a mapping says
            how.
        expires_at: when it is over, unless ``refresh`` says otherwise (s, Unix); None
            for what the token says.

    Raises:
        UsageError: a user that is not text.
    """

    user: str | None = None
    info: str = ""
    data: str = ""
    channels: Iterable[str] | Mapping[str, Subscribed] = ()
    expires_at: float | None = None

    def __post_init__(self) -> None:
        check_user(self.user)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientProtocol:
    """How an endpoint speaks the Centrifuge client protocol.

    Data from clients is JSON text; from those that speak Protobuf it is text if it is
    valid UTF-8, else bytes.

    The handlers are async callables. They may raise ``NotAllowed`` (error 103) or
    ``ClientError``; whatever else they raise is logged and answered with error 100.
    The broker's own ``Hooks`` are asked as for any session.

    Attributes:
        clock: the time (s, Unix), for tokens; such as ``time.time``.
        tokens: tells genuine tokens from others; None if none are accepted.
        anonymous: clients without a token, and without a user from ``authenticate`` or
            ``connect``, are welcome.
        personal: subscribe each user to a channel of its own: None for none, "" for
            ``#42``, a namespace ``ns`` for ``ns:#42``. Nobody else can subscribe to
            a channel whose name ends with ``#`` and users but they.
        connect: takes ``connect(session, Connecting)`` once the token was accepted, and
            returns ``Connected`` or None.
        subscribe: takes ``subscribe(session, channel, data)``, if no token has decided,
            and returns ``Subscribed`` or None.
        refresh: takes ``refresh(session)`` when a connection is over; returns until
            when it goes on (s, Unix), or None for ever; ``NotAllowed`` ends it. None:
            the client is to bring a new token.
        rpc: answers ``rpc(session, method, data)`` with JSON text. None: error 108. For
            typed data: ``broker.rpc.RpcMethods``.
        message: takes ``message(session, data)``. None: disconnect 3508.
        times: deadlines.
        write_delay_s: how long to wait for more before a frame goes out (s, 0 to 1).
        max_recovered: most publications that a client can recover; who has missed
            more is told so (300: Centrifugo's client.recovery_max_publication_limit).
        max_history: most publications of one history reply (300: likewise).
        max_commands: most commands in one frame (256: guess, twice the subscriptions
            that a client may have).
        max_depth: most JSON objects and arrays inside each other (128: guess).
        version: of the server, for the client.

    Raises:
        UsageError: a delay out of range.
    """

    clock: Callable[[], float]
    tokens: tokens.TokenVerifier | None = None
    anonymous: bool = True
    personal: str | None = None
    connect: (
        Callable[[ClientSession, Connecting], Awaitable[Connected | None]] | None
    ) = None
    subscribe: (
        Callable[[ClientSession, str, Any], Awaitable[Subscribed | None]] | None
    ) = None
    refresh: Callable[[ClientSession], Awaitable[float | None]] | None = None
    rpc: Callable[[ClientSession, str, Any], Awaitable[Payload]] | None = None
    message: Callable[[ClientSession, Any], Awaitable[None]] | None = None
    times: ProtocolTimes = field(default_factory=ProtocolTimes)
    write_delay_s: float = 0.0
    max_recovered: int = 300
    max_history: int = 300
    max_commands: int = 256
    max_depth: int = 128
    version: str = "asgi-broker"

    def __post_init__(self) -> None:
        if not 0 <= self.write_delay_s <= 1:
            raise UsageError(
                f"write_delay_s must be 0 to 1, not {self.write_delay_s:g}"
            )
