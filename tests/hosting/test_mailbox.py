"""What has come for an application: in order, bounded, and never lost."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio
import trio

from adapters.hosting.hardening.asyncio_server import AsyncioBell
from adapters.hosting.hardening.mailbox import Mailbox


def make(size: int = 3) -> Mailbox:
    is_trio = sniffio.current_async_library() == "trio"
    return Mailbox(size, trio.Event if is_trio else AsyncioBell)


def message(number: int) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": str(number)}


async def put_all(mailbox: Mailbox, numbers: range) -> None:
    for number in numbers:
        await mailbox.put(message(number))


async def test_all_come_in_order_and_no_more_wait_than_may() -> None:
    mailbox = make(size=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put_all, mailbox, range(10))
        await anyio.wait_all_tasks_blocked()
        for number in range(10):
            assert len(mailbox._messages) <= 3
            assert await mailbox() == message(number)
            await anyio.wait_all_tasks_blocked()
    assert not mailbox._waiting


async def test_more_than_one_may_come_before_who_waits_can_look() -> None:
    mailbox = make()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mailbox)
        await anyio.wait_all_tasks_blocked()
        await put_all(mailbox, range(3))
    assert [await mailbox() for _ in range(2)] == [message(1), message(2)]


@pytest.mark.parametrize("ticks", range(10))
async def test_a_call_that_is_cancelled_at_any_tick_loses_nothing(ticks: int) -> None:
    mailbox, got = make(), list[Any]()

    async def take() -> None:
        got.append(await mailbox())

    for number in range(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_all, mailbox, range(number, number + 1))
            async with anyio.create_task_group() as hasty:
                hasty.start_soon(take)
                for _ in range(ticks):
                    await anyio.lowlevel.checkpoint()
                hasty.cancel_scope.cancel()
        if len(got) <= number:
            await take()
    assert got == [message(number) for number in range(10)]
    assert not mailbox._waiting


async def test_of_two_who_wait_one_gives_up_and_the_other_gets_it() -> None:
    mailbox, got = make(), list[Any]()

    async def take(patience_s: float) -> None:
        with anyio.move_on_after(patience_s):
            got.append(await mailbox())

    async with anyio.create_task_group() as tasks:
        for patience_s in (1, 5):
            tasks.start_soon(take, patience_s)
        await anyio.sleep(2)
        await mailbox.put(message(1))
    assert got == [message(1)]


async def test_once_it_is_closed_nobody_waits_for_room() -> None:
    mailbox = make(size=1)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(put_all, mailbox, range(number, number + 2))
        await anyio.wait_all_tasks_blocked()
        mailbox.close()
    await put_all(mailbox, range(100))
    assert not mailbox._messages
    assert not mailbox._waiting


async def test_an_end_of_a_request_takes_the_place_of_what_nobody_reads() -> None:
    mailbox = make(size=1)
    await mailbox.put(message(1))
    await mailbox.put({"type": "http.disconnect"})
    assert await mailbox() == {"type": "http.disconnect"}
