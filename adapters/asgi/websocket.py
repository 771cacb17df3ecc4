"""Starlette's WebSocket as a transport, and ``open_session`` for your own endpoint."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Literal, overload

import anyio
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from broker import (
    Broker,
    BrokerClosed,
    BrokerError,
    Ending,
    EndKind,
    Frames,
    LimitExceeded,
    NotAllowed,
    Overflow,
    Session,
    SessionEnded,
    TransportClosed,
)
from broker.ending import ending_for
from broker.message import Encode, Payload
from broker.transport import FrameT
from broker.wire import PLAIN, WireFormat

from .connecting import connect_request, denial

__all__ = (
    "DirectWebSocket",
    "Refusal",
    "Refused",
    "WebSocketTransport",
    "connect_request",
    "open_session",
    "refuse",
)

Refusal = Literal["http", "close"]

FAREWELL_S = 5.0  # as Limits.grace_s


class Refused(Exception):
    """The client has been refused, and told so: the endpoint has nothing left to do.

    Starlette and FastAPI end the endpoint quietly on it. Under a bare ASGI server,
    catch it.
    """


class DirectWebSocket(WebSocket):
    """A WebSocket whose frames the transport sends past Starlette.

    Its checks of what may be sent when take four hundredths of a delivery, and sessions
    send frames only between accept and close.

    Attributes:
        direct_send: as the server, or what is between, has given it.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.direct_send = send


class WebSocketTransport:
    """An accepted WebSocket, for the core. It holds no queue and decides nothing.

    Args:
        first: a frame that has come with the handshake.

    Attributes:
        loses_nothing: see ``broker.Transport``; so it is under ``broker serve``.
    """

    __slots__ = ("_first", "_receive", "_send", "_websocket", "loses_nothing")

    def __init__(self, websocket: WebSocket, first: Payload | None = None) -> None:
        # Of the server's own ``receive``, if nobody else's is around it. Starlette has
        # no public name for what it was given.
        receive: Any = getattr(websocket, "_receive", None)
        self.loses_nothing: bool = getattr(receive, "loses_nothing", False)
        self._receive: Receive = receive if self.loses_nothing else websocket.receive
        self._websocket = websocket
        self._first = first
        self._send: Send = websocket.send
        if isinstance(websocket, DirectWebSocket):
            self._send = websocket.direct_send

    async def receive(self) -> Payload:
        """Return the next frame; see ``broker.Transport``."""
        first, self._first = self._first, None
        if first is not None:
            await anyio.lowlevel.checkpoint()
            return first
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._websocket.client_state = WebSocketState.DISCONNECTED
            raise TransportClosed("the client has left")
        text = message.get("text")
        frame: Payload = message["bytes"] if text is None else text
        return frame

    async def send(self, frame: Payload) -> None:
        """Send one frame; see ``broker.Transport``."""
        kind = "text" if isinstance(frame, str) else "bytes"
        # Servers tell a lost client in many ways: OSError (ASGI 2.4), which Starlette
        # makes a WebSocketDisconnect; RuntimeError (uvicorn); Exception (daphne);
        # most say nothing at all.
        try:
            await self._send({"type": "websocket.send", kind: frame})
        except Exception as error:
            raise TransportClosed(f"send failed: {error!r}") from error

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye; see ``broker.Transport``."""
        message = {"type": "websocket.close", "code": code, "reason": reason}
        try:
            await self._websocket.send(message)
        except Exception as error:
            raise TransportClosed(f"close failed: {error!r}") from error


@overload
def open_session(
    websocket: WebSocket,
    broker: Broker,
    *,
    user: str | None = ...,
    overflow: Overflow | None = ...,
    encode: Encode | None = ...,
    wire: WireFormat = ...,
    subprotocol: str | None = ...,
    first: Payload | None = ...,
    refusal: Refusal = ...,
) -> AbstractAsyncContextManager[Session[str]]: ...
@overload
def open_session(
    websocket: WebSocket,
    broker: Broker,
    *,
    frames: Frames[FrameT],
    user: str | None = ...,
    overflow: Overflow | None = ...,
    encode: Encode | None = ...,
    wire: WireFormat = ...,
    subprotocol: str | None = ...,
    first: Payload | None = ...,
    refusal: Refusal = ...,
) -> AbstractAsyncContextManager[Session[FrameT]]: ...
@asynccontextmanager
async def open_session(
    websocket: WebSocket,
    broker: Broker,
    *,
    frames: Frames[Any] = Frames.TEXT,
    user: str | None = None,
    overflow: Overflow | None = None,
    encode: Encode | None = None,
    wire: WireFormat = PLAIN,
    subprotocol: str | None = None,
    first: Payload | None = None,
    refusal: Refusal = "http",
) -> AsyncGenerator[Session[Any], None]:
    """Accept a WebSocket and run its session for as long as the block runs.

    What the block may do and how it ends: ``Broker.open_session``. Besides, raising
    Starlette's ``WebSocketException`` in it closes the client with that code and
    reason, and code after the block still runs. Call it from the endpoint's own task,
    and leave the websocket's own methods alone inside: the session's tasks use them.

    Args:
        frames: what the client may send; anything else closes it with 1003.
        user: who the client is, if the endpoint knows; None asks ``authenticate``.
        overflow: policy of its subscriptions; None for what each topic's rules say.
        encode: makes the frame of a message or a gap; None for that of ``wire``.
        wire: how the session speaks otherwise; for protocols.
        subprotocol: chosen if the client offers it, else none is.
        first: a frame that has come with the handshake, before all others; likewise.
        refusal: ``"http"`` answers a client that is refused with 401, 403, 429 or 503
            and a JSON body, where the server can; a browser's page sees only code 1006.
            ``"close"`` accepts it and closes with 1008 or 1012 and the reason, which
            a page does see.

    Raises:
        Refused: the client was refused, or left before it was accepted. Starlette and
            FastAPI end the endpoint quietly on it.
    """
    _end_quietly(websocket)
    # Not of the websocket itself, which would keep what it has parsed.
    request = connect_request(HTTPConnection(websocket.scope))
    try:
        user = await broker.admit(request, user=user)
    except (NotAllowed, LimitExceeded, BrokerClosed) as error:
        await refuse(websocket, error, refusal=refusal)
        raise Refused(str(error)) from error
    await _accept(websocket, subprotocol)
    client_host = request.client_host
    del request  # kilobytes, which nobody needs any more
    has_begun = False
    try:
        async with broker.open_session(
            WebSocketTransport(websocket, first),
            frames,
            user=user,
            client_host=client_host,
            overflow=overflow,
            encode=encode,
            wire=wire,
        ) as session:
            has_begun = True
            try:
                yield session
            except WebSocketException as error:
                ending = Ending.of(EndKind.DISCONNECTED, error.reason, code=error.code)
                session.end(ending, flush=True)
    except (LimitExceeded, BrokerClosed) as error:
        if has_begun:
            raise
        await refuse(websocket, error, refusal="close")
        raise Refused(str(error)) from error
    except SessionEnded as error:
        if has_begun:
            raise
        # on_connect refused; the session has said so
        raise Refused(str(error)) from error


async def refuse(
    websocket: WebSocket, error: BrokerError, *, refusal: Refusal = "http"
) -> None:
    """Tell a client that it is refused, and why; ``open_session`` says in which way.

    For endpoints that refuse on their own account, and return then.
    """
    if websocket.application_state is WebSocketState.CONNECTING:
        if refusal == "http":
            await _deny(websocket, error)
            return
        await _accept(websocket, None)
    ending = ending_for(error)
    transport = WebSocketTransport(websocket)
    # Not left before the client is gone: hypercorn 0.18 never lets go of a connection
    # whose messages nobody takes.
    with suppress(TransportClosed), anyio.move_on_after(FAREWELL_S):
        await transport.close(ending.code, ending.reason)
        while True:
            await transport.receive()


async def _accept(websocket: WebSocket, subprotocol: str | None) -> None:
    if websocket.application_state is not WebSocketState.CONNECTING:
        return  # the endpoint has done it
    offered = subprotocol in websocket.scope.get("subprotocols", ())
    try:
        await websocket.accept(subprotocol if offered else None)
    except Exception as error:
        # The client has left, or offered an extension that the server chokes on.
        raise Refused(f"accept failed: {error!r}") from error


async def _deny(websocket: WebSocket, error: BrokerError) -> None:
    with suppress(Exception):  # it has left: nobody to tell
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(denial(error))
        else:
            ending = ending_for(error)
            await websocket.close(ending.code, ending.reason)  # the server makes it 403


def _end_quietly(websocket: WebSocket) -> None:
    """Have Starlette take these for handled, where a server would log a traceback.

    ``Refused``: the client has been answered. ``BrokerClosed``: a farewell that the
    endpoint publishes while the broker closes, and that nobody could read any more.
    """
    handlers = websocket.scope.get("starlette.exception_handlers")
    if handlers is not None:
        handlers[0].setdefault(Refused, _ignore)
        handlers[0].setdefault(BrokerClosed, _ignore)


async def _ignore(connection: Any, error: Exception) -> None:
    if not isinstance(connection, WebSocket):
        raise error
