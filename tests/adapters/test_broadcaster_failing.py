"""The drop-in for encode/broadcaster: backends that fail while something begins."""

from __future__ import annotations

import anyio
import pytest

from adapters.broadcaster import Broadcast
from broker import BackplaneError, BrokerClosed

from .broadcaster_backend import OwnBackend

PATIENCE_S = 60  # virtual: a hang fails at once


class StuckOnConnect(OwnBackend):
    async def connect(self) -> None:
        self.calls.append("connect")
        try:
            await anyio.sleep_forever()
        finally:
            self.calls.append("give up")


async def test_cancelled_while_it_connects() -> None:
    backend = StuckOnConnect()
    broadcast = Broadcast(backend=backend)
    with anyio.move_on_after(1) as scope:
        await broadcast.connect()
    assert scope.cancelled_caught
    with anyio.fail_after(PATIENCE_S):
        while backend.calls != ["connect", "give up"]:
            await anyio.sleep(0.1)
        await broadcast.disconnect()


async def test_disconnected_while_it_connects() -> None:
    broadcast = Broadcast(backend=StuckOnConnect())

    async def connect() -> None:
        with pytest.raises(BrokerClosed, match="while it was connecting"):
            await broadcast.connect()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.wait_all_tasks_blocked()
            await broadcast.disconnect()


async def test_what_connecting_raises_comes_out_bare() -> None:
    backend = OwnBackend()
    backend.failing["connect"] = OSError("refused")
    broadcast = Broadcast(backend=backend)
    with anyio.fail_after(PATIENCE_S):
        with pytest.raises(OSError, match="refused"):
            await broadcast.connect()
        await broadcast.disconnect()  # a shutdown hook runs all the same
        backend.failing.clear()
        async with broadcast, broadcast.subscribe("a"):
            pass


async def test_two_failures_at_once_keep_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = OwnBackend()
    backend.failing["disconnect"] = OSError("reset")
    with anyio.fail_after(PATIENCE_S), pytest.raises(BackplaneError) as failed:
        async with Broadcast(backend=backend) as broadcast:
            backend.fail(ConnectionError("gone"))
            async with broadcast.subscribe("a") as subscriber:
                await subscriber.get()
    assert isinstance(failed.value.__cause__, ConnectionError)
    assert "disconnect has failed as well" in caplog.text


async def test_a_failure_ends_who_is_subscribing() -> None:
    backend = OwnBackend()
    backend.is_stuck = True
    broadcast = Broadcast(backend=backend)

    async def subscribe() -> None:
        with pytest.raises(BackplaneError, match="gone"):
            async with broadcast.subscribe("a"):
                pass

    with anyio.fail_after(PATIENCE_S):
        await broadcast.connect()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscribe)
            await anyio.wait_all_tasks_blocked()
            backend.fail(ConnectionError("gone"))
        with pytest.raises(BackplaneError, match="gone"):
            await broadcast.disconnect()


async def test_disconnecting_ends_who_is_subscribing() -> None:
    backend = OwnBackend()
    backend.is_stuck = True
    broadcast = Broadcast(backend=backend)

    async def subscribe() -> None:
        with pytest.raises(BrokerClosed):
            async with broadcast.subscribe("a"):
                pass

    with anyio.fail_after(PATIENCE_S):
        await broadcast.connect()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subscribe)
            await anyio.wait_all_tasks_blocked()
            await broadcast.disconnect()
    assert not broadcast._subscribers
