"""The two tasks of a session, its queues, and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import anyio.lowlevel

from .batching import BatchedWakeup
from .config import Overflow
from .core import Core
from .ending import Ending, EndKind
from .errors import SessionEnded, SlowConsumer, TransportClosed
from .framing import Framer
from .message import Gap, Message, Payload, Share, size_of
from .state.deadlines import Deadlines
from .state.inbox import Inbox
from .state.rates import Meter
from .subscriber import Subscriber
from .transport import Frames, Transport
from .wakeup import Wakeup
from .wire import WireFormat

__all__ = ("Actor",)

logger = logging.getLogger("broker")


class Actor:
    """The only one that touches a client's transport: one task reads, one writes.

    Args:
        owner_id: of the session.
        meters: of its client's messages: the session's own and the user's.
        frames: what the client may send.
        wire: how it speaks.
        on_end: called once, when it ends; must not wait and not raise.
        on_gap: called by the writer for each gap, before its frame goes out; says
            whether it does; likewise.

    Attributes:
        ending: why it ended; None while it goes on.
        is_held: nothing is sent yet, until ``release``.
        delay_s: how long the writer waits for more to be joined before it sends (s).
        framer: makes its frames.
        received: frames received so far.
        sent: frames sent so far.
    """

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        owner_id: str,
        meters: tuple[Meter, ...],
        frames: Frames[Payload],
        wire: WireFormat,
        on_end: Callable[[], None],
        on_gap: Callable[[Gap], bool],
    ) -> None:
        limits = core.limits
        self.ending: Ending | None = None
        self.is_held = False
        self.delay_s = 0.0
        self.framer = Framer(wire, on_gap, core.last_joined)
        self._ended: anyio.Event | None = None  # set when it has ended
        self._core = core
        self._transport = transport
        self._owner_id = owner_id
        self._meters = meters
        self._frames = frames
        self._wire = wire
        self._on_end = on_end
        self._turns = BatchedWakeup(core.batcher) if wire.join else None
        self._wakeup = self._turns or Wakeup()  # of the writer
        self._lanes: dict[Overflow, Subscriber] = {}  # one outbox per policy in use
        self._replies = self.lane(Overflow.DISCONNECT)
        self._inbox = Inbox(
            max_messages=limits.max_inbox_messages,
            max_bytes=limits.max_inbox_bytes,
            budget=core.budget,
        )
        self._arrived = Wakeup()  # of the handler
        self._inbox_room: anyio.Event | None = None
        self._handling = anyio.ResourceGuard("receiving from this session")
        self._reading = anyio.CancelScope()
        self._writing = anyio.CancelScope()
        self._is_sending = False
        self.received = 0
        self.sent = 0
        self._deadlines = Deadlines(limits, anyio.current_time())

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent and to be handled."""
        waiting = sum(lane.outbox.size_bytes for lane in self._lanes.values())
        return waiting + self._inbox.size_bytes

    @property
    def lag(self) -> int:
        """Messages and gaps that wait to be sent."""
        return sum(lane.lag for lane in self._lanes.values())

    @property
    def has_more(self) -> bool:
        """The client has sent what was not handled yet."""
        return bool(self._inbox)

    @property
    def is_stalled(self) -> bool:
        """The client has not taken what is being sent for a while."""
        return self.ending is None and self._deadlines.is_stalled

    def lane(self, overflow: Overflow) -> Subscriber:
        """Return the outbox for topics with this policy; all feed the one writer."""
        lane = self._lanes.get(overflow)
        if lane is None:
            lane = self._lanes[overflow] = Subscriber(
                self._owner_id,
                self._core.outbox(overflow),
                self._wakeup,
                self._core.counters,
                self._fall_behind,
            )
        return lane

    def discard(self, lane: Subscriber, topic: str) -> None:
        """Let go of what waits of a topic that is no longer delivered to the lane."""
        lane.discard(topic)
        self.framer.discard(topic)

    @property
    def has_left(self) -> bool:
        """The client went of its own accord; what it said before still counts."""
        return self.ending is not None and self.ending.kind is EndKind.CLIENT_LEFT

    def check(self) -> None:
        """Raise SessionEnded if it has ended, other than by the client's leaving."""
        if self.ending is not None and not self.has_left:
            raise SessionEnded(self.ending)

    async def receive(self) -> Payload:
        """Return the next frame; ``Session.receive`` says what is promised."""
        with self._handling:
            if self._inbox:
                await anyio.lowlevel.checkpoint()
            while not self._inbox:
                if self.ending is not None:
                    await anyio.lowlevel.checkpoint()
                    raise SessionEnded(self.ending)
                await self._arrived.wait()
            frame = self._inbox.take()
            self._tell_inbox_room()
            return frame

    async def send(self, payload: Payload, size: int) -> None:
        """Queue a frame for this client; ``Session.send`` says what is promised."""
        self.check()
        await self._replies.wait_room(size)
        self.check()
        if not self.has_left:
            self.send_nowait(payload, size)

    def send_nowait(self, payload: Payload, size: int) -> None:
        """Queue a frame for this client without waiting; never raises.

        Without room it ends as a slow consumer.
        """
        message = Message("", payload, share=Share(size))
        self._core.budget.hold(message, 1)
        self._replies.deliver(message, size)
        self._core.relieve()

    def release(self, first: Payload | None = None) -> None:
        """Send again what waits, and a frame before all of it, if one is given."""
        self.is_held = False
        if first is not None and self.ending is None:
            self._replies.recover([Message("", first, share=Share(size_of(first)))])
            self._core.relieve()
        self._wakeup.notify()

    def end(self, ending: Ending, *, flush: bool = False) -> None:
        """End it; ``Session.end`` says what is promised."""
        if self.ending is not None:
            return
        self.ending = ending
        self._on_end()
        if not flush or self.is_held:
            # What is held back is of no use without what was to come before it.
            for lane in self._lanes.values():
                lane.clear()
        if ending.kind is not EndKind.CLIENT_LEFT:
            self._inbox.clear()
        deadline = anyio.current_time() + self._core.limits.grace_s
        self._reading.deadline = self._writing.deadline = deadline
        self._wakeup.notify()
        self._arrived.notify()
        self._tell_inbox_room()
        if self._ended is not None:
            self._ended.set()

    async def wait_ended(self) -> Ending:
        """Return why it ended, once it has. Always a checkpoint."""
        if self._ended is None:
            self._ended = anyio.Event()  # made when needed: few wait, and it takes 1 KB
            if self.ending is not None:
                self._ended.set()
        await self._ended.wait()
        assert self.ending is not None
        return self.ending

    def close(self) -> None:
        """Free everything; both tasks have ended."""
        for lane in self._lanes.values():
            lane.clear()
        self._inbox.clear()
        self._wakeup.close()
        self._arrived.close()

    def cut(self) -> None:
        """Wait for the client no longer; only once it has ended."""
        self._reading.cancel()
        self._writing.cancel()

    def check_deadlines(self, now: float) -> None:
        """End it if one of its deadlines has passed (s, monotonic)."""
        if self.ending is None:
            kind = self._deadlines.check(
                now,
                received=self.received,
                sent=self.sent,
                is_sending=self._is_sending,
                is_inbox_full=self._inbox.is_full,
            )
            if kind is not None:
                self.end(Ending.of(kind))

    async def read(self) -> None:
        """Receive until the client has left, or ``grace_s`` after the end.

        What comes after the end is discarded, not left: hypercorn 0.18 never lets go
        of a connection whose messages nobody takes (20 of 20 leaked, none with this).
        """
        with self._reading:
            try:
                while True:
                    frame = await self._transport.receive()
                    if self.ending is None:
                        self._accept(frame)
                        while self._inbox.is_full and self.ending is None:
                            self._inbox_room = self._inbox_room or anyio.Event()
                            await self._inbox_room.wait()
            except TransportClosed:
                self.end(Ending.of(EndKind.CLIENT_LEFT))
            except Exception:
                logger.exception("session %a: receive failed", self._owner_id)
                self.end(Ending.of(EndKind.INTERNAL_ERROR))
            # Nobody is there to write to.
            self._writing.cancel()

    async def write(self) -> None:
        """Send what waits until the end, then close.

        A send that was cancelled leaves the connection broken: nothing follows it.
        """
        with self._writing:
            try:
                ending = await self._send_all()
                if ending.kind is not EndKind.CLIENT_LEFT:
                    await self._transport.close(*self._wire.close(ending))
            except TransportClosed:
                self.end(Ending.of(EndKind.CLIENT_LEFT))
            except Exception:
                logger.exception("session %a: send failed", self._owner_id)
                self.end(Ending.of(EndKind.INTERNAL_ERROR))

    async def _send_all(self) -> Ending:
        send = self._transport.send
        counters = self._core.counters
        lanes = self._lanes
        while True:
            while self.is_held and self.ending is None:
                await self._wakeup.wait()
            is_idle = True
            for lane in tuple(lanes.values()) if len(lanes) > 1 else (self._replies,):
                item = lane.poll()
                if item is None:
                    continue
                is_idle = False
                frame = self.framer.frame(item, lane)
                if frame is None:
                    continue
                payload, size, fanned_out = frame
                self._is_sending = True
                await send(payload)
                self._is_sending = False
                self.sent += 1
                counters.sent += 1
                counters.sent_bytes += size
                if fanned_out is not None:
                    counters.queueing.observe(anyio.current_time() - fanned_out)
            # Not asked again in vain, where there is one lane as a rule.
            if is_idle or (len(lanes) == 1 and self._replies.is_empty):
                if self.ending is not None:
                    return self.ending
                await self._wakeup.wait()
                if self.delay_s and self.ending is None:
                    await anyio.sleep(self.delay_s)
            elif (
                self._turns is not None
                and self.ending is None
                and 0 < self.lag < self._wire.max_joined
            ):
                # A send lets publishers run: what they have published meanwhile would
                # go out a message at a time.
                await self._turns.wait_turn()

    def _accept(self, frame: Payload) -> None:
        """Queue a frame for the handler, or end a client that sends what it may not."""
        counters = self._core.counters
        size = size_of(frame)
        self.received += 1
        counters.received += 1
        counters.received_bytes += size
        if not isinstance(frame, self._frames.kinds):
            came = "text" if isinstance(frame, str) else "binary"
            reason = f"this takes {self._frames.name} frames, and a {came} one came"
            self.end(Ending.of(EndKind.WRONG_FRAME_TYPE, reason))
            return
        limit = self._core.limits.max_message_bytes
        if size > limit:
            reason = f"message of {size} bytes; the limit is {limit}"
            self.end(Ending.of(EndKind.MESSAGE_TOO_LARGE, reason))
            return
        if self._meters:
            now = anyio.current_time()
            for meter in self._meters:
                exceeded = meter.take(size, now)
                if exceeded is not None:
                    self.end(Ending.of(exceeded))
                    return
        self._inbox.put(frame, size)
        if self._arrived.armed:
            self._arrived.notify()
        self._core.relieve()

    def _fall_behind(self, _: SlowConsumer) -> None:
        self.end(Ending.of(EndKind.SLOW_CONSUMER))

    def _tell_inbox_room(self) -> None:
        if self._inbox_room is not None:
            self._inbox_room.set()
            self._inbox_room = None
