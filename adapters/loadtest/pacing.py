"""Waking up when a message is due, and not a millisecond later."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from types import TracebackType
from typing import Self

__all__ = ("Alarm",)

NS_PER_S = 1_000_000_000
TFD_TIMER_ABSTIME = 1
TIMER_BYTES = 8


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Wakes one task at given times; a context manager.

    Event loops round their timers up to a millisecond, which would be in every latency:
    on Linux the kernel's own timer is used (``timerfd_create(2)``; Python has it from
    3.13 on). Elsewhere the loop's.

    Args:
        has_timer: use the kernel's.
    """

    def __init__(self, *, has_timer: bool = sys.platform == "linux") -> None:
        self._libc = ctypes.CDLL(None, use_errno=True) if has_timer else None
        self._file = -1
        self._rung = asyncio.Event()

    def __enter__(self) -> Self:
        if self._libc is not None:
            flags = os.O_NONBLOCK | os.O_CLOEXEC
            self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
            if self._file < 0:
                self._libc = None
            else:
                asyncio.get_running_loop().add_reader(self._file, self._ring)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    async def wait_until(self, at_ns: int) -> None:
        """Return at a time of ``time.monotonic_ns``'s clock, at once if it is over.

        Others get their turn in any case. For one task at a time.
        """
        if at_ns <= time.monotonic_ns():
            await asyncio.sleep(0)
        elif self._is_set(at_ns):
            await self._rung.wait()
        else:  # a loop's timer may be early by what it rounds
            while (left_ns := at_ns - time.monotonic_ns()) > 0:  # noqa: ASYNC110 # no event
                await asyncio.sleep(left_ns / NS_PER_S)

    def _is_set(self, at_ns: int) -> bool:
        if self._libc is None:
            return False
        self._rung.clear()
        timer = _Timer(_Timespec(0, 0), _Timespec(*divmod(at_ns, NS_PER_S)))
        failed: int = self._libc.timerfd_settime(
            self._file, TFD_TIMER_ABSTIME, ctypes.byref(timer), None
        )
        return not failed

    def _ring(self) -> None:
        try:
            os.read(self._file, TIMER_BYTES)
        except BlockingIOError:
            return
        self._rung.set()
