"""Clients that hear over one long HTTP response: a stream of lines, or of events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import (
    Broker,
    BrokerClosed,
    ConnectRequest,
    LimitExceeded,
    NotAllowed,
    SessionEnded,
    TransportClosed,
)
from broker.client import serve_client
from broker.client_format import ClientFormat
from broker.client_protocol import ClientProtocol
from broker.message import Payload
from broker.protocol.frames import DisconnectPush, Push
from broker.tasks import collapsing

from .body import Unreadable, read_body
from .connecting import connect_request, denial
from .emulation import Emulation, Handover
from .pages import check_mode, page_headers, preflight

__all__ = ("EVENTS", "LINES", "Framing", "ResponseTransport", "StreamEndpoint")

# Of the query of an EventSource, which cannot have a body.
CONNECT = "cf_connect"
# Proxies are not to wait for more, caches not to keep it.
UNBUFFERED = {
    "x-accel-buffering": "no",
    "cache-control": "private, no-cache, no-store, must-revalidate, max-age=0",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Framing:
    """How frames, which are lines, become the body of a response.

    Attributes:
        media_type: of the response.
        head: what the body begins with.
        body: makes the part of the body that one frame is.
    """

    media_type: str
    head: bytes
    body: Callable[[Payload], bytes]


def _lines(frame: Payload) -> bytes:
    return frame.encode() + b"\n" if isinstance(frame, str) else frame


def _events(frame: Payload) -> bytes:
    text = frame if isinstance(frame, str) else frame.decode()
    # No line has a carriage return in it, which would end it here: codec.compact.
    return "".join(f"data: {line}\n\n" for line in text.split("\n")).encode()


LINES = Framing("application/x-ndjson", b"", _lines)
# A browser has not connected before the first byte of the body.
EVENTS = Framing("text/event-stream; charset=utf-8", b"\r\n", _events)


class ResponseTransport:
    """A response whose body goes on until the session ends, for the core.

    Args:
        first: what the client said in its request.
        rest: what it says in others.
        headers: of the response.
    """

    def __init__(
        self,
        send: Send,
        first: Payload,
        rest: Handover,
        *,
        framing: Framing,
        speaks: ClientFormat[str],
        headers: dict[str, str],
    ) -> None:
        self._has_begun = False
        self._send = send
        self._first: Payload | None = first
        self._rest = rest
        self._framing = framing
        self._speaks = speaks
        self._headers = {"content-type": framing.media_type, **UNBUFFERED, **headers}

    async def receive(self) -> Payload:
        """Return the next frame; see ``broker.Transport``."""
        first, self._first = self._first, None
        if first is None:
            return await self._rest.take()
        await anyio.lowlevel.checkpoint()
        return first

    async def send(self, frame: Payload) -> None:
        """Send one frame; see ``broker.Transport``."""
        await self._write(self._framing.body(frame), more_body=True)

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, by a push, and end the response; see ``broker.Transport``."""
        farewell = self._speaks.push(Push("", DisconnectPush(code, reason)))
        await self._write(self._framing.body(farewell), more_body=False)
        # The client has nothing to answer, and not every server says that it has gone.
        self._rest.end()

    async def watch(self, receive: Receive) -> None:
        """Wait until the client has gone; the next ``receive`` says so."""
        while (await receive())["type"] != "http.disconnect":
            pass  # more of a body that nobody asked for
        self._rest.end()

    async def _write(self, body: bytes, *, more_body: bool) -> None:
        if not self._has_begun:
            self._has_begun = True
            headers = [(k.encode(), v.encode()) for k, v in self._headers.items()]
            await self._guard(
                {"type": "http.response.start", "status": 200, "headers": headers}
            )
            body = self._framing.head + body
        await self._guard(
            {"type": "http.response.body", "body": body, "more_body": more_body}
        )

    async def _guard(self, message: Message) -> None:
        # As WebSocketTransport: servers tell a lost client in many ways, or not at all.
        try:
            await self._send(message)
        except Exception as error:
            self._rest.end()
            raise TransportClosed(f"send failed: {error!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEndpoint:
    """An endpoint whose response is a session of the Centrifuge client protocol.

    A client that is refused gets 401, 403, 429 or 503 with a JSON body; 400, 408 or 413
    if its request cannot be read. What it is told later comes in the response.

    Attributes:
        speaks: the form of the protocol.
        framing: of the response.
        emulation: takes what the client says later; None for clients that only listen.
        empty: what a client says that says nothing; None if that is wrong.
    """

    broker: Broker
    protocol: ClientProtocol
    speaks: ClientFormat[str]
    framing: Framing
    emulation: Emulation | None = None
    empty: str | None = None

    async def endpoint(self, request: Request) -> ASGIApp:
        """Return the response to a request."""
        if request.method == "OPTIONS":
            return preflight(self.broker, request)
        if request.method == "HEAD":  # which Starlette adds where there is GET
            return Response(status_code=405)
        asked = connect_request(request)
        headers = page_headers(self.broker, asked)
        try:
            check_mode(request)
            user = await self.broker.admit(asked)
            first = await self._first_frame(request)
        except (NotAllowed, LimitExceeded, BrokerClosed) as error:
            refusal: Response = denial(error)
        except Unreadable as error:
            refusal = Response(status_code=error.status)
        else:
            return self._response(asked, user, first, headers)
        refusal.headers.update(headers)
        return refusal

    async def _first_frame(self, request: Request) -> str:
        limit = self.broker.limits.max_message_bytes
        if request.method == "GET":
            first = request.query_params.get(CONNECT, "")
            if len(first.encode()) > limit:
                raise Unreadable(413)
        else:
            within_s = self.protocol.times.stale_s
            body = await read_body(request, max_bytes=limit, within_s=within_s)
            try:
                first = body.decode()
            except UnicodeDecodeError:
                raise Unreadable(400) from None
        if first:
            return first
        if self.empty is None:
            raise Unreadable(400)
        return self.empty

    def _response(
        self,
        asked: ConnectRequest,
        user: str | None,
        first: str,
        headers: dict[str, str],
    ) -> ASGIApp:
        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            handover = Handover(self.broker.limits)
            transport = ResponseTransport(
                send,
                first,
                handover,
                framing=self.framing,
                speaks=self.speaks,
                headers=headers,
            )
            try:
                with collapsing():
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(
                            transport.watch, receive, name="broker: response watcher"
                        )
                        await self._run(transport, handover, asked, user)
                        tasks.cancel_scope.cancel()
            except (LimitExceeded, BrokerClosed) as error:
                refusal = denial(error)  # there was room when it was admitted
                refusal.headers.update(headers)
                await refusal(scope, receive, send)
            except SessionEnded:
                pass  # on_connect has refused; the session has said so
            finally:
                handover.end()

        return respond

    async def _run(
        self,
        transport: ResponseTransport,
        handover: Handover,
        asked: ConnectRequest,
        user: str | None,
    ) -> None:
        emulation, speaks = self.emulation, self.speaks
        # Around the session: what is posted while it says goodbye is taken as well, and
        # nobody is told that there is no such session before its client has heard why.
        with nullcontext() if emulation is None else emulation.hosting(handover) as to:
            async with self.broker.open_session(
                transport,
                speaks.takes,
                user=user,
                client_host=asked.client_host,
                wire=speaks.wire,
            ) as session:
                await serve_client(
                    self.broker, session, self.protocol, speaks=speaks, address=to
                )
