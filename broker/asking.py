"""What comes in from a client whose handler receives it by itself."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from .core import Core
from .ending import Ending
from .message import Payload
from .reading import Reader
from .state.rates import Meter
from .transport import Frames, Transport

__all__ = ("AskingReader",)


class AskingReader(Reader):
    """A reader whose task ends while the handler can receive by itself.

    As long as the handler waits for the client, its own task receives: a client that
    says nothing costs no other. A handler that is still busy at the second tick is
    relieved of that, so a client's leaving is noticed within about two seconds even
    then; the task ends when it has a frame for a handler that waits again. At the
    session's end the task begins as well: somebody has to listen until the client
    leaves.

    Attributes:
        may_ask: the handler is never cancelled while it receives, or the transport
            loses nothing then; until this is set the task goes on.
    """

    __slots__ = (
        "_has_left",
        "_is_asking",
        "_is_reading",
        "_is_waiting",
        "_tasks",
        "_was_busy",
    )

    def __init__(
        self,
        core: Core,
        transport: Transport,
        *,
        owner_id: str,
        meters: tuple[Meter, ...],
        frames: Frames[Payload],
        on_end: Callable[[Ending], None],
        on_gone: Callable[[], None],
    ) -> None:
        super().__init__(
            core,
            transport,
            owner_id=owner_id,
            meters=meters,
            frames=frames,
            on_end=on_end,
            on_gone=on_gone,
        )
        self._tasks: TaskGroup | None = None
        self._has_left = False  # the transport is not asked again
        # At most one of these two, because at most one receives:
        self._is_asking = False  # the handler
        self._is_reading = False  # the task
        self._is_waiting = False  # the handler, for the task
        self._was_busy = False  # the handler, at the last tick

    @property
    def has_more(self) -> bool:
        return bool(self._inbox) or not (self._is_asking or self._is_reading)

    def begin(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._start()

    def end(self, ending: Ending, deadline: float) -> None:
        super().end(ending, deadline)
        if self._is_asking:
            assert self._scope is not None
            self._scope.cancel()  # and then it starts the task
        else:
            self._start()

    def close(self) -> None:
        self._tasks = None
        super().close()

    def tick(self) -> None:
        is_busy = not self._is_asking
        if is_busy and self._was_busy:
            self._start()
        self._was_busy = is_busy

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._is_reading = False

    @property
    def _is_relieved(self) -> bool:
        return self.may_ask and self._is_waiting and bool(self._inbox)

    async def _wait(self) -> None:
        if self._is_reading:
            self._is_waiting = True
            try:
                await super()._wait()
            finally:
                self._is_waiting = False
        else:
            if self._arrived is not None:
                self._arrived.close()  # of the task; it takes 3 KB
                self._arrived = None
            frame = await self._ask()
            if self._ending is not None:
                self._start()
            elif frame is not None:
                self._accept(frame)

    async def _ask(self) -> Payload | None:
        """Return the next frame; None if the session has ended meanwhile."""
        self._is_asking = True
        try:
            with anyio.CancelScope() as self._scope:
                return await self._transport.receive()
        except Exception as error:  # noqa: BLE001 # logged, and ends the session
            self._lose(error)
        finally:
            self._scope = None
            self._is_asking = False
        return None

    def _lose(self, error: Exception) -> None:
        self._has_left = True
        super()._lose(error)

    def _start(self) -> None:
        """Have the task receive, if nobody does and there is something to come."""
        if not (
            self._is_asking or self._is_reading or self._has_left or not self._tasks
        ):
            self._is_reading = True
            super().begin(self._tasks)
