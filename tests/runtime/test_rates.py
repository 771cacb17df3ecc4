"""Clients that send more than they may."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from broker import Broker, ConnectRequest, EndKind, LimitExceeded, Limits
from broker.stats import SAMPLE

from .helpers import LONG_S, connected

SLOW = Limits(messages_per_s=2, burst_s=2)


async def echo(session: Any) -> None:
    async for text in session:
        await session.send(text)


@pytest.mark.parametrize(
    ("limits", "frames", "code", "kind"),
    [
        (Limits(messages_per_s=2, burst_s=2), ["x"] * 5, 4004, EndKind.MESSAGE_RATE),
        (
            Limits(bytes_per_s=10, burst_s=2, max_message_bytes=10),
            ["x" * 10] * 3,
            4005,
            EndKind.BYTE_RATE,
        ),
        (
            Limits(user_messages_per_s=2, burst_s=2),
            ["x"] * 5,
            4004,
            EndKind.MESSAGE_RATE,
        ),
        (
            Limits(user_bytes_per_s=10, burst_s=2, max_message_bytes=10),
            ["x" * 10] * 3,
            4005,
            EndKind.BYTE_RATE,
        ),
    ],
)
async def test_each_rate_has_its_code_and_its_counter(
    limits: Limits, frames: list[str], code: int, kind: EndKind
) -> None:
    async with Broker(limits=limits) as broker:
        async with connected(broker, user="ann") as (client, session):
            for frame in frames:
                await client.send(frame)
            with anyio.fail_after(LONG_S):
                await client.closed.wait()
            assert client.close_code == code
            assert client.close_reason
            assert session.ended_by.kind is kind
        assert broker.statistics().totals.ended[kind] == 1


async def test_who_keeps_to_the_rate_stays() -> None:
    """Two in a second for a minute, after a burst."""
    async with Broker(limits=SLOW) as broker, connected(broker) as (client, session):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo, session)
            for _ in range(4):
                await client.send("burst")
            for _ in range(120):
                await anyio.sleep(0.5)
                await client.send("x")
            for _ in range(124):
                await client.receive()
            assert session.ending is None
            client.leave()


async def test_a_user_has_one_rate_over_all_sessions() -> None:
    limits = Limits(user_messages_per_s=1, burst_s=4)
    async with Broker(limits=limits) as broker:
        async with (
            connected(broker, user="ann") as (one, _),
            connected(broker, user="ann") as (two, _),
            connected(broker, user="bob") as (other, bobs),
        ):
            for _ in range(2):
                for client in (one, two, other):
                    await client.send("x")
            await anyio.wait_all_tasks_blocked()
            assert (one.close_code, two.close_code) == (None, None)
            await two.send("one too many")
            await anyio.wait_all_tasks_blocked()
            assert (one.close_code, two.close_code) == (None, 4004)
            assert bobs.ending is None
        # Coming back does not help at once, and later it does.
        async with connected(broker, user="ann") as (again, _):
            await again.send("x")
            await anyio.wait_all_tasks_blocked()
            assert again.close_code == 4004
        await anyio.sleep(10)
        async with connected(broker, user="ann") as (later, _):
            await later.send("x")
            await anyio.wait_all_tasks_blocked()
            assert later.close_code is None


async def test_sessions_per_host_and_per_user() -> None:
    limits = Limits(max_sessions_per_host=2, max_sessions_per_user=1)
    async with Broker(limits=limits) as broker:
        here = ConnectRequest(client_host="192.0.2.1")
        async with connected(broker, client_host="192.0.2.1", user="ann"):
            assert await broker.admit(here) is None
            with pytest.raises(LimitExceeded, match="max_sessions_per_user is 1"):
                await broker.admit(here, user="ann")
            async with connected(broker, client_host="192.0.2.1"):
                with pytest.raises(LimitExceeded, match="max_sessions_per_host is 2"):
                    await broker.admit(here)
                with pytest.raises(LimitExceeded, match="max_sessions_per_host is 2"):
                    async with connected(broker, client_host="192.0.2.1"):
                        pytest.fail("not reached")
                # Other addresses, and clients without one, are others.
                await broker.admit(ConnectRequest(client_host="192.0.2.2"))
                await broker.admit(ConnectRequest())
        await broker.admit(here, user="ann")
        refused = broker.statistics().totals.refused
        assert refused[EndKind.SESSIONS_OF_USER] == 1
        assert refused[EndKind.SESSIONS_OF_HOST] == 2


async def test_bytes_and_times_are_counted() -> None:
    async with Broker() as broker, connected(broker) as (client, session):
        await session.subscribe("t")
        for number in range(SAMPLE + 1):
            await anyio.wait_all_tasks_blocked()
            await broker.publish("t", f"{number:03}é")
        await client.send("ü!")
        await session.receive()
        for _ in range(SAMPLE + 1):
            await client.receive()
        await anyio.wait_all_tasks_blocked()
        totals = broker.statistics().totals
        assert (totals.sent, totals.sent_bytes) == (SAMPLE + 1, 5 * (SAMPLE + 1))
        assert (totals.received, totals.received_bytes) == (1, 3)
        # The first of each SAMPLE, and each reached one client.
        assert sum(totals.fan_out.counts) == 2
        assert sum(totals.queueing.counts) == 2


async def test_what_waits_and_who_stalls_is_seen() -> None:
    limits = Limits(stall_s=10)
    async with Broker(limits=limits) as broker:
        async with connected(broker, capacity=0) as (_, session):
            await session.subscribe("t")
            for number in range(3):
                await broker.publish("t", str(number))
            assert broker.statistics().stalled == 0
            await anyio.sleep(3)
            now = broker.statistics()
            assert (now.stalled, now.waiting, now.queued_bytes) == (1, 2, 2)
            await anyio.sleep(20)
            assert broker.statistics().stalled == 0
            assert broker.statistics().totals.ended[EndKind.STALLED] == 0
            assert session.ended_by.kind is EndKind.STALLED
        assert broker.statistics().totals.ended[EndKind.STALLED] == 1


async def test_the_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "broker")
    async with Broker(limits=SLOW) as broker:
        async with connected(
            broker, client_id="me\n", user="ann", client_host="192.0.2.1"
        ) as (client, session):
            await client.send("secret")
            await session.receive()
            await anyio.sleep(2)
            client.leave()
            await session.wait_ended()
    (line,) = [each for each in caplog.records if hasattr(each, "event")]
    assert line.getMessage() == r"session 'me\n': client_left (1000: 'the client left')"
    facts = line.__dict__
    assert 2 <= facts["duration_s"] < 4
    assert (facts["event"], facts["ended"]) == ("session_end", "client_left")
    assert (facts["received"], facts["sent"]) == (1, 0)
    assert (facts["user"], facts["host"], facts["code"]) == ("ann", "192.0.2.1", 1000)
    assert "secret" not in caplog.text
