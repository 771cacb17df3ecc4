"""What goes out to a client whose frames are joined: sent by tasks that many share."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from .core import Core
from .ending import Ending, EndKind
from .message import Gap
from .transport import Transport
from .wakeup import Alarm
from .wire import WireFormat
from .writing import Writer

__all__ = ("JoiningWriter",)

logger = logging.getLogger("broker")


class JoiningWriter(Writer):
    """A writer that has no task of its own, until it says goodbye.

    While the session goes on a task of the pool sends, when the batcher says. From its
    end on a task of the session does, once a send that is under way is over.

    Attributes:
        armed: nothing waits or is being sent, and no turn of this one is to come.
    """

    __slots__ = ("_batcher", "_is_broken", "_is_free", "_sending", "_tasks", "armed")

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
        self.armed = True
        self._batcher = core.batcher
        self._tasks: TaskGroup | None = None
        self._sending: anyio.CancelScope | None = None  # of the pool's task
        self._is_free: anyio.Event | None = None  # set when that has let go
        self._is_broken = False  # part of a frame may be out
        super().__init__(
            core,
            transport,
            owner_id=owner_id,
            wire=wire,
            on_gap=on_gap,
            on_end=on_end,
        )

    def begin(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        if self._ending is not None:
            super().begin(tasks)

    def notify(self) -> None:
        """Have a turn, with all others. Never blocks."""
        if self.armed:
            self.armed = False
            self._batcher.hold(self, self.delay_s)

    def end(self, ending: Ending, deadline: float, *, flush: bool) -> None:
        self.armed = False  # no more turns
        super().end(ending, deadline, flush=flush)
        if self._tasks is not None:
            super().begin(self._tasks)

    def close(self) -> None:
        self._tasks = None
        self._clear()

    async def send_one(self, scope: anyio.CancelScope) -> bool:
        """Send a frame, if there is one; see ``Sender``."""
        if self._ending is not None:
            return True
        try:
            frame = self._take()
            if frame is None:
                self.armed = True
                return True
            self._sending = scope
            self.is_sending = True
            await self._transport.send(frame[0])
        except Exception as error:  # noqa: BLE001 # logged, and ends the session
            self._is_broken = True
            self._fail(error)
        except anyio.get_cancelled_exc_class():
            self._is_broken = True
            self._on_end(Ending.of(EndKind.INTERNAL_ERROR))  # unless it has ended
            if anyio.current_effective_deadline() == -math.inf:
                raise  # by who sees this client off, or with the broker
            # Somewhere below, which is this client's bad luck, and would end the pool.
            logger.exception("session %a: send was cancelled", self._owner_id)
        else:
            self._note_sent(frame)
            self._look_again()
        finally:
            self._sending = None
            if self._is_free is not None:
                self._is_free.set()
        return self._is_free is None

    def _look_again(self) -> None:
        """Have another turn, if more waits."""
        if self.is_empty():
            self.armed = True
        elif self.lag < self._wire.max_joined:
            # A send lets publishers run: what they have published meanwhile would go
            # out a message at a time.
            self._batcher.hold(self, self.delay_s)
        else:
            self._batcher.hurry(self)

    async def _send_all(self) -> bool:
        await self._wait_free()
        return not self._is_broken and await super()._send_all()

    async def _wait_free(self) -> None:
        """Wait until the pool's task has let go, and see to it when cancelled."""
        if self._sending is None:
            return
        self._is_free = anyio.Event()
        try:
            await self._is_free.wait()
        finally:
            if self._sending is not None:
                self._sending.cancel()
                with anyio.move_on_after(self._core.limits.grace_s, shield=True):
                    await self._is_free.wait()

    def _make_alarm(self) -> Alarm:
        return self
