"""Messages leave when they are due: never before, and soon after."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import pytest
import uvloop

from adapters.loadtest.pacing import Alarm

MS = 1_000_000
TIMERS = [False, *([True] if sys.platform == "linux" else [])]


@pytest.mark.parametrize("has_timer", TIMERS)
def test_nobody_is_woken_too_early(has_timer: bool) -> None:
    async def main() -> None:
        with Alarm(has_timer=has_timer) as alarm:
            for wait_ns in (3 * MS, 500_000, 50_000, 0, -MS, 2 * MS):
                due_ns = time.monotonic_ns() + wait_ns
                await alarm.wait_until(due_ns)
                assert time.monotonic_ns() >= due_ns

    uvloop.run(main())


@pytest.mark.parametrize("has_timer", TIMERS)
def test_others_have_their_turn_when_everything_is_late(has_timer: bool) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(other())
        with Alarm(has_timer=has_timer) as alarm:
            for _ in range(10):
                await alarm.wait_until(0)
        task.cancel()

    uvloop.run(main())
    assert turns >= 9


def test_a_wait_that_was_cut_short_wakes_nobody_later() -> None:
    async def main() -> None:
        with Alarm() as alarm:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await alarm.wait_until(time.monotonic_ns() + 2 * MS)
            due_ns = time.monotonic_ns() + 8 * MS
            await alarm.wait_until(due_ns)
            assert time.monotonic_ns() >= due_ns

    uvloop.run(main())


def test_no_descriptor_is_left() -> None:
    async def main() -> None:
        before = len(os.listdir("/dev/fd"))
        with Alarm() as alarm:
            await alarm.wait_until(time.monotonic_ns() + MS)
        assert len(os.listdir("/dev/fd")) == before

    uvloop.run(main())
