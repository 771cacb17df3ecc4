"""One client of a load test, over all its connections."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSCloseHandshake

from .dialing import ConnectError, Dialer
from .plan import Slowness
from .stamp import Stamp, find_stamps, stamped
from .wires import Said, Speaker

__all__ = ("Client", "Events", "Hearing", "Room")

MAX_WAITING_BYTES = 1024 * 1024  # of one publisher, in this process; then it is behind
TRICKLE_S = 1.0  # between two reads of a client that hardly reads
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # of one that comes in several frames


class Hearing(Protocol):
    """What counts what a client hears: ``tally.Ear``."""

    def heard(self, stamp: Stamp, now_ns: int) -> None:
        """A message came."""

    def told(self, publisher: int | None, missed: int | None) -> None:
        """The server said that messages are missing for good."""

    def came(self, now_ns: int) -> None:
        """The server has accepted a newcomer."""

    def left(self, *, ended_by_server: bool = False, now_ns: int = 0) -> None:
        """The client is gone."""


class Events(Protocol):
    """Who is told what becomes of clients."""

    def refused(self, client: Client, count: int, why: str) -> None:
        """The server would not take so many publications."""

    def ended(self, client: Client, why: str) -> None:
        """The server ended a connection."""


class Room:
    """What is heard in one room, looked at once.

    In a fan-out each client gets the same bytes: to compare them with what the client
    before it got is ten times as fast as to search them.

    Attributes:
        number: of the room.
        frame: the last that was looked at.
        stamps: those in it.
        is_plain: there is nothing in it but messages.
    """

    __slots__ = ("frame", "is_plain", "number", "stamps")

    def __init__(self, number: int) -> None:
        self.number = number
        self.frame = b""
        self.stamps: list[Stamp] = []
        self.is_plain = True

    def look(self, frame: bytes, speaker: Speaker) -> None:
        """Take a frame apart."""
        self.frame = frame
        self.stamps = find_stamps(frame)
        self.is_plain = speaker.is_plain(frame)


class Client(WSListener):
    """One client: connects, hears, publishes, vanishes, comes back.

    Args:
        number: of the client in the whole test.
        room: where it is; shared with the others of this process.
        url: where it connects to.
        speaker: how it speaks.
        events: who is told.
        publisher: the number by which it publishes, whose messages it does not listen
            to: some servers send a message back to who sent it, some do not. None for
            one that does not publish.
        slowness: how it does not read; None for one that reads.

    Attributes:
        ear: counts what it hears; None for a client that nothing is due to.
        is_open: it is connected, and the server has accepted it.
        is_resumed: what the server said when it came back last.
        sent: messages that it has published.
        refused: of these, what the server would not take: ``tally.Sent``.
    """

    def __init__(
        self,
        number: int,
        room: Room,
        url: str,
        speaker: Speaker,
        events: Events,
        *,
        publisher: int | None = None,
        slowness: Slowness | None = None,
    ) -> None:
        self.number = number
        self.room = room
        self.url = url
        self.speaker = speaker
        self.publisher = publisher
        self.slowness = slowness
        self.ear: Hearing | None = None
        self.is_open = False
        self.is_resumed: bool | None = None
        self.sent = 0
        self.refused: list[tuple[int, int]] = []
        self._events = events
        self._own = -1 if publisher is None else publisher
        self._transport: WSTransport | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._plain = b""
        self._complaint = ""
        self._is_waking = False

    async def connect(self, dialer: Dialer, patience_s: float) -> None:
        """Connect, and return when the server has accepted the client.

        Args:
            patience_s: longest wait for the answer to its greeting (s).

        Raises:
            ConnectError: it has not; nothing is left of the attempt.

        Cancellation: nothing is left of the attempt either.
        """
        self._greeted = asyncio.get_running_loop().create_future()
        self.is_resumed = None
        self._parts.clear()
        try:
            is_slow = self.slowness is not None
            try:
                await dialer.dial(self, self.url, client=self.number, is_slow=is_slow)
            except ConnectError:
                greeted = self._greeted
                if not greeted.done() or greeted.exception() is None:
                    raise
                # More is known of why it has ended.
            async with asyncio.timeout(patience_s):
                await self._greeted
        except TimeoutError:
            self.vanish()
            said = f"no answer to its greeting within {patience_s:g} s"
            raise ConnectError(f"{said}: does it speak like that?") from None
        except BaseException:
            self.vanish()
            raise
        finally:
            self._greeted.cancel()
            self._greeted = None

    def publish(self, intended_ns: int, size: int) -> bool:
        """Send the next message; False if the socket takes no more, or there is none.

        What is not sent has no number, so it is due to nobody.
        """
        transport = self._transport
        if transport is None or not self.is_open or self.publisher is None:
            return False
        waiting = transport.underlying_transport.get_write_buffer_size()
        if waiting > MAX_WAITING_BYTES:
            return False
        text = stamped(Stamp(self.publisher, self.sent, intended_ns), size)
        self.sent += 1
        transport.send(WSMsgType.TEXT, self.speaker.publish(text))
        return True

    def leave(self) -> None:
        """Go as clients should: with a close frame."""
        transport = self._forget()
        if transport is not None:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def vanish(self) -> None:
        """Go without a word, as when the network does."""
        transport = self._forget()
        if transport is not None:
            transport.disconnect(False)

    def read_on(self) -> None:
        """Have a slow client read again, from now on like any other."""
        self.slowness = None
        if self._transport is not None:
            _resume(self._transport)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        self._transport = transport
        frames, is_ready = self.speaker.greet()
        for frame in frames:
            transport.send(WSMsgType.TEXT, frame)
        if is_ready:
            self._accepted()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count what is in a frame. All that a load test costs is spent here."""
        if frame.msg_type is WSMsgType.TEXT and frame.fin:
            data = frame.get_payload_as_bytes()
        else:
            whole = self._odd(transport, frame)
            if whole is None:
                return
            data = whole
        now_ns = time.monotonic_ns()
        room = self.room
        if data != room.frame:
            room.look(data, self.speaker)
        stamps = room.stamps
        ear = self.ear
        said = None
        if room.is_plain:
            self._plain = data
        else:
            said = self.speaker.read(data)
            if ear is not None and (said.is_gap or said.is_resumed is False):
                ear.told(None, None)  # of what is behind it in this very frame
        if ear is not None:
            own = self._own
            for stamp in stamps:
                if stamp[0] != own:
                    ear.heard(stamp, now_ns)
        if said is not None:
            self._heed(transport, said)
        if self.slowness is not None and self.is_open:
            self._dawdle()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """See that the server has gone: who goes by itself has forgotten it before."""
        if transport is not self._transport:
            return
        was_open = self.is_open
        handshake: WSCloseHandshake | None = transport.close_handshake
        told = None if handshake is None else handshake.recv
        if told is not None:
            code = getattr(told.code, "value", told.code)
            why = f"closed with {code} {told.reason}".strip()
        else:
            why = self._complaint or "closed without a close frame"
        self._end(why, was_told=told is not None, was_open=was_open)

    def pause_writing(self) -> None:
        """Do nothing: what waits is looked at before each message."""

    def resume_writing(self) -> None:
        """Do nothing, as above."""

    def _heed(self, transport: WSTransport, said: Said) -> None:
        for answer in said.answers:
            transport.send(WSMsgType.TEXT, answer)
        if said.refused:
            for number in said.refused:
                self._note_refused(number)
            self._events.refused(self, len(said.refused), said.complaint)
        if said.is_resumed is not None:
            self.is_resumed = said.is_resumed
        # What is no protocol of ours is the end of a client that is not accepted yet.
        ended = said.ended or ("" if self.is_open else said.complaint)
        if ended:
            if transport is self._transport:
                self._end(ended, was_told=True, was_open=self.is_open)
                transport.disconnect(False)
        elif said.is_ready:
            self._accepted()

    def _note_refused(self, number: int) -> None:
        if number < 0:
            return
        # Mostly one behind the other: a server that refuses, refuses all.
        if self.refused and self.refused[-1][1] == number:
            self.refused[-1] = (self.refused[-1][0], number + 1)
        else:
            self.refused.append((number, number + 1))

    def _accepted(self) -> None:
        self.is_open = True
        if self.slowness is not None:
            self._dawdle()
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)

    def _end(self, why: str, *, was_told: bool, was_open: bool) -> None:
        self._forget()
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(ConnectError(why))
            # Nobody may be waiting yet: the handshake has just been made.
            self._greeted.exception()
        if was_open:
            if self.ear is not None:
                if was_told:
                    self.ear.told(None, None)
                self.ear.left(ended_by_server=True)
            self._events.ended(self, why)

    def _forget(self) -> WSTransport | None:
        if self._plain:
            self.speaker.note(self._plain)
            self._plain = b""
        transport, self._transport = self._transport, None
        self.is_open = False
        return transport

    def _odd(self, transport: WSTransport, frame: WSFrame) -> bytes | None:
        """Return the whole message if this frame ends one that came in several."""
        kind = frame.msg_type
        if kind is WSMsgType.BINARY and frame.fin:
            return frame.get_payload_as_bytes()
        if kind is WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
            return None
        if kind not in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            return None
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > MAX_MESSAGE_BYTES:
            self._complaint = f"sent a message of over {MAX_MESSAGE_BYTES} bytes"
            transport.disconnect(False)
        if not frame.fin:
            return None
        whole = b"".join(self._parts)
        self._parts.clear()
        self._parts_bytes = 0
        return whole

    def _dawdle(self) -> None:
        transport = self._transport
        if transport is None or transport.is_disconnected:
            return
        transport.underlying_transport.pause_reading()
        if self.slowness is Slowness.TRICKLE and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_later(TRICKLE_S, self._wake, transport)

    def _wake(self, transport: WSTransport) -> None:
        self._is_waking = False
        _resume(transport)


def _resume(transport: WSTransport) -> None:
    if not transport.is_disconnected:
        transport.underlying_transport.resume_reading()
