"""Posts that reach a node which does not have the session, in memory on both loops."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from broker import Broker, MemoryBackplane
from broker.testing import FaultyBackplane

from .http_client import Listener, streaming
from .test_client_http import LIMITS, Handled, send


@asynccontextmanager
async def elsewhere() -> AsyncGenerator[
    tuple[Listener, Listener, Handled, FaultyBackplane], None
]:
    """A client, the same on the other node, its own node, and the other's faults."""
    shared = MemoryBackplane()
    faults = FaultyBackplane(shared)
    async with Broker(shared, limits=LIMITS) as one, Broker(faults) as two:
        here, there = Handled(one), Handled(two)
        await anyio.wait_all_tasks_blocked()
        async with streaming(here.app, "/connection/http_stream") as client:
            other = Listener(there.app, client.request)
            other.address = client.address
            yield client, other, here, faults


async def test_a_post_is_handed_on_and_answered() -> None:
    async with elsewhere() as (client, other, here, _):
        here.go_on.set()
        assert await other.post(send("é\n")) == 204
        assert await client.post(send("here")) == 204
        await anyio.wait_all_tasks_blocked()
        assert [json.loads(text) for text in here.messages] == ["é\n", "here"]
        assert await other.post(send("x"), session="unknown") == 404
        assert await other.post(send("x"), node="unknown") == 404
        assert await client.post(send("x"), session="unknown") == 404
    assert len(here.emulation) == 0


async def test_a_session_that_takes_nothing() -> None:
    """What its own node would say, the other one says."""
    async with elsewhere() as (_, other, here, _):
        answers = [await other.post(send("x" * 1_900))]
        while answers[-1] == 204:
            answers.append(await other.post(send("x" * 1_900)))
        assert 1 < len(answers) < 10
        assert answers[-1] == 503
        here.go_on.set()


async def test_its_node_cannot_be_reached() -> None:
    async with elsewhere() as (_, other, _, faults):
        faults.is_cut = True
        assert await other.post(send("x")) == 503
        await anyio.sleep(10)  # it is heard no more
        assert await other.post(send("x")) == 404


async def test_its_node_does_not_answer() -> None:
    async with elsewhere() as (_, other, here, _):
        here.broker.nodes._run = None  # it hears nothing
        assert await other.post(send("x")) == 503
