"""What goes out to one client: its queues, and the one that sends."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from .config import Overflow
from .core import Core
from .ending import Ending, EndKind
from .errors import SlowConsumer, TransportClosed
from .framing import Frame, Framer
from .message import Gap
from .subscriber import Subscriber
from .transport import Transport
from .wakeup import Alarm, Wakeup
from .wire import WireFormat

__all__ = ("Writer",)

logger = logging.getLogger("broker")


class Writer:
    """Sends one client its frames, and says goodbye; nobody else does.

    This one has a task of its own for that.

    Args:
        owner_id: of the session.
        wire: how it speaks.
        on_gap: called for each gap, before its frame goes out; says whether it does;
            must not wait and not raise.
        on_end: ends the session; likewise.

    Attributes:
        framer: makes its frames.
        replies: the outbox of what is for this client alone.
        is_held: nothing is sent yet, until the session releases it.
        delay_s: how long to wait for more to be joined before it is sent (s); only
            where frames are joined.
        is_sending: a frame is being sent.
        sent: frames sent so far.
    """

    __slots__ = (
        "_alarm",
        "_core",
        "_deadline",
        "_ending",
        "_lanes",
        "_on_end",
        "_owner_id",
        "_scope",
        "_transport",
        "_turn",
        "_wakeup",
        "_wire",
        "delay_s",
        "framer",
        "is_held",
        "is_sending",
        "replies",
        "sent",
    )

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        owner_id: str,
        wire: WireFormat,
        on_gap: Callable[[Gap], bool],
        on_end: Callable[[Ending], None],
    ) -> None:
        self.framer = Framer(wire, on_gap, core.last_joined)
        self.is_held = False
        self.delay_s = 0.0
        self.is_sending = False
        self.sent = 0
        self._core = core
        self._transport = transport
        self._owner_id = owner_id
        self._wire = wire
        self._on_end = on_end
        self._ending: Ending | None = None
        self._scope: anyio.CancelScope | None = None  # of its task
        self._deadline = math.inf
        self._alarm = self._make_alarm()
        self.replies = self._make_lane(Overflow.DISCONNECT)
        # One outbox per policy in use; as a rule there is but one.
        self._lanes: tuple[Subscriber, ...] = (self.replies,)
        self._turn = 0  # whose it is

    def is_empty(self) -> bool:
        """Say whether nothing waits to be sent; cheaper than ``not lag``."""
        if len(self._lanes) == 1:  # the hot path
            return self.replies.is_empty()
        return all(lane.is_empty() for lane in self._lanes)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return sum(lane.outbox.size_bytes for lane in self._lanes)

    @property
    def lag(self) -> int:
        """Messages and gaps that wait to be sent."""
        return sum(lane.lag for lane in self._lanes)

    def lane(self, overflow: Overflow) -> Subscriber:
        """Return the outbox for topics with this policy; all feed this writer."""
        for lane in self._lanes:
            if lane.outbox.overflow is overflow:
                return lane
        lane = self._make_lane(overflow)
        self._lanes += (lane,)
        return lane

    def begin(self, tasks: TaskGroup) -> None:
        """Send from now on; ``tasks`` are the session's, which outlive this."""
        tasks.start_soon(self.run, name="broker: session writer")

    def release(self) -> None:
        """Send again what waits."""
        self.is_held = False
        self._alarm.notify()

    def end(self, ending: Ending, deadline: float, *, flush: bool) -> None:
        """Have the client told, after what waits if that is to be. Never blocks.

        Args:
            deadline: when to wait for the client no longer (s, monotonic).
        """
        self._ending = ending
        if not flush or self.is_held:
            # What is held back is of no use without what was to come before it.
            self._clear()
        self._deadline = deadline
        if self._scope is not None:
            self._scope.deadline = deadline
        self._alarm.notify()

    def cut(self) -> None:
        """Wait for the client no longer; only once it has ended."""
        self._deadline = -math.inf
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """Free everything; nothing sends any more."""
        self._clear()
        self._alarm.close()

    async def run(self) -> None:
        """Send what waits until the end, then close.

        A send that was cancelled leaves the connection broken: nothing follows it.
        """
        with anyio.CancelScope(deadline=self._deadline) as self._scope:
            try:
                if await self._send_all():
                    assert self._ending is not None
                    await self._transport.close(*self._wire.close(self._ending))
            except Exception as error:  # noqa: BLE001 # logged, and ends the session
                self._fail(error)

    async def _send_all(self) -> bool:
        """Send until the end; returns whether anybody is there to be told of it."""
        send = self._transport.send
        while True:
            frame = self._take()
            if frame is not None:
                self.is_sending = True
                await send(frame[0])
                self._note_sent(frame)
            elif self._ending is not None:
                return self._ending.kind is not EndKind.CLIENT_LEFT
            else:
                await self._wakeup.wait()

    def _make_lane(self, overflow: Overflow) -> Subscriber:
        return Subscriber(
            self._owner_id,
            self._core.outbox(overflow),
            self._alarm,
            self._core.counters,
            self._fall_behind,
        )

    def _make_alarm(self) -> Alarm:
        self._wakeup = Wakeup()  # of this one's task
        return self._wakeup

    def _take(self) -> Frame | None:
        """Return the next frame, if one is to go out; the lanes take turns."""
        if self.is_held and self._ending is None:
            return None
        if len(self._lanes) > 1:
            return self._take_in_turn(self._lanes)
        return self._take_from(self.replies)

    def _take_in_turn(self, lanes: tuple[Subscriber, ...]) -> Frame | None:
        for turn in range(self._turn, self._turn + len(lanes)):
            frame = self._take_from(lanes[turn % len(lanes)])
            if frame is not None:
                self._turn = (turn + 1) % len(lanes)
                return frame
        return None

    def _take_from(self, lane: Subscriber) -> Frame | None:
        while (item := lane.poll()) is not None:
            frame = self.framer.frame(item, lane)
            if frame is not None:
                return frame
        return None

    def _note_sent(self, frame: Frame) -> None:
        _, size, fanned_out = frame
        self.is_sending = False
        self.sent += 1
        counters = self._core.counters
        counters.sent += 1
        counters.sent_bytes += size
        if fanned_out is not None:
            counters.queueing.observe(anyio.current_time() - fanned_out)

    def _fail(self, error: Exception) -> None:
        """End the session of a client that cannot be sent to."""
        if isinstance(error, TransportClosed):
            self._on_end(Ending.of(EndKind.CLIENT_LEFT))
        else:
            logger.error("session %a: send failed", self._owner_id, exc_info=error)
            self._on_end(Ending.of(EndKind.INTERNAL_ERROR))

    def _fall_behind(self, _: SlowConsumer) -> None:
        self._on_end(Ending.of(EndKind.SLOW_CONSUMER))

    def _clear(self) -> None:
        for lane in self._lanes:
            lane.clear()
