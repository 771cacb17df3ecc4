"""hypercorn's WebSocket: bounded messages, and the right last words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypercorn.protocol.events import Body, Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import (
    ASGIWebsocketState,
    FrameTooLargeError,
    Handshake,
    WebsocketBuffer,
    WSStream,
)
from hypercorn.typing import ASGISendEvent, WebsocketAcceptEvent
from wsproto.connection import Connection, ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from .frames import FrameMaker
from .http import HardenedH11, SendBytes, StreamEnding

__all__ = ("BoundedBuffer", "HardenedHandshake", "HardenedStream")

REASONS = {  # ours: wsproto's quote the client
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: "invalid payload",
    CloseReason.MESSAGE_TOO_BIG: "message too big",
}
EXTENSIONS = b"sec-websocket-extensions"


class HardenedHandshake(Handshake):
    """A handshake that is invalid, not fatal, if its headers are.

    Args:
        compression: accept permessage-deflate.

    Attributes:
        is_extended: frames are more than a length and a message.
    """

    is_extended = False

    def __init__(
        self, compression: bool, headers: list[tuple[bytes, bytes]], http_version: str
    ) -> None:
        try:
            super().__init__(headers, http_version)
        except UnicodeDecodeError:
            super().__init__([], http_version)  # a handshake without a key
        self._compression = compression

    def accept(
        self, subprotocol: str | None, additional_headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], Connection]:
        """Return the answer's status and headers, and the connection."""
        if not self._compression:
            self.extensions = None
        answer = super().accept(subprotocol, additional_headers)
        self.is_extended = any(name == EXTENSIONS for name, _ in answer[1])
        return answer


class BoundedBuffer(WebsocketBuffer):
    """A message as it arrives; text counts as what it was on the wire."""

    def extend(self, event: Message[Any]) -> None:
        """Append a part.

        Raises:
            FrameTooLargeError: it does not fit; what there was is dropped.
        """
        data = event.data
        size = len(data)
        if isinstance(data, str) and not data.isascii():
            size = len(data.encode())
        total = self.length + size
        if total > self.max_length:
            self.clear()
            raise FrameTooLargeError
        super().extend(event)
        self.length = total  # where hypercorn counts characters


class HardenedStream(WSStream):
    """A WebSocket that tells client and application why it ends, and does end.

    Args:
        frames: makes what the application sends.
    """

    def __init__(self, max_message_bytes: int, frames: FrameMaker, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = BoundedBuffer(max_message_bytes)
        self._frames = frames
        self._send_bytes: SendBytes | None = None  # once accepted

    async def handle(self, event: Event) -> None:
        """Take what the client has sent."""
        is_data = isinstance(event, Body | Data)
        if is_data and not self.closed and not self.handshake.accepted:
            # RFC 6455 section 4.1: the client waits for the answer.
            await self._begin_to_end()
            if self.state is ASGIWebsocketState.HANDSHAKE:
                await self._send_error_response(400)
            await self._end(CloseReason.ABNORMAL_CLOSURE)
        else:
            await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the application sends; None when it has finished."""
        if self.closed:
            # Ignored, as ever; but who only sends, and does not look, would not let
            # anybody else run.
            await self.context.sleep(0)
            return
        if message is None:
            await self.send(StreamEnding(self.stream_id))
        elif (
            message["type"] == "websocket.send"
            and self._send_bytes is not None
            and self.connection.state is ConnectionState.OPEN
        ):
            # Past hypercorn's and wsproto's events, which were half of a delivery.
            payload: Any = message.get("bytes")
            if payload is None:
                payload = message.get("text")
            if isinstance(payload, (str, bytes)):
                await self._send_bytes(self._frames.frame(payload))
                return
        await super().app_send(message)

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        try:
            await super()._accept(message)
        finally:
            if not self.handshake.accepted:  # it is still for the 500
                self.state = ASGIWebsocketState.HANDSHAKE
        assert isinstance(self.handshake, HardenedHandshake)
        if self.handshake.accepted:
            protocol: HardenedH11 = self.send.__self__  # type: ignore[attr-defined] # of a bound method
            protocol.forget_http()
            if not self.handshake.is_extended:
                self._send_bytes = protocol.send_bytes

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._fail(CloseReason.MESSAGE_TOO_BIG)
                    return
                if event.message_finished:
                    message = self.buffer.to_message()
                    self.buffer.clear()
                    await self._put(message)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                elif self.connection.state is not ConnectionState.CLOSED:
                    # No frame of the client's: how wsproto says that it cannot parse.
                    await self._fail(event.code)
                    return
                await self.send(StreamClosed(self.stream_id))

    async def _fail(self, code: int) -> None:
        """Close with a reason; RFC 6455 section 7.1.7."""
        self.buffer.clear()
        await self._begin_to_end()
        reason = REASONS.get(CloseReason(code), "protocol error")
        await self._send_wsproto_event(CloseConnection(code, reason))
        await self._end(code)

    async def _begin_to_end(self) -> None:
        self.closed = True  # the application may go on sending; nothing comes of it
        # Before any last word, for which a stalled client would have us wait.
        await self.send(StreamEnding(self.stream_id))

    async def _end(self, code: int) -> None:
        await self.send(StreamClosed(self.stream_id))
        await self._put({"type": "websocket.disconnect", "code": int(code)})

    async def _put(self, message: dict[str, Any]) -> None:
        assert self.app_put is not None
        await self.app_put(message)
