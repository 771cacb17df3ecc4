"""Posts that reach a node which does not have the session, in memory on both loops."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

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
    async with elsewhere() as (_, other, here, faults):
        here.go_on.set()
        faults.is_cut = True
        assert await other.post(send("x")) == 503
        await anyio.sleep(10)
        assert await other.post(send("x")) == 503  # it may still be there
        faults.is_cut = False
        assert await other.post(send("x")) == 204


async def test_its_node_does_not_answer() -> None:
    async with elsewhere() as (_, other, here, _):
        here.broker.nodes._run = None  # it hears nothing
        assert await other.post(send("x")) == 503


@pytest.mark.parametrize("name", ["info", "channels", ""])
async def test_clients_ask_nothing_else_of_the_nodes(name: str) -> None:
    """Counting all channels is work, and for the server API alone."""
    asked: list[str] = []

    async def answer(text: str) -> str:
        asked.append(text)
        return "204"

    async with elsewhere() as (_, other, here, _):
        here.broker.nodes._handlers[name] = answer
        await anyio.sleep(4)  # it is announced
        assert await other.post(send("x"), node=name) == 404
        assert asked == []


@pytest.mark.parametrize("said", ["99999", "200", "", "x", "0204", "+204"])
async def test_an_answer_that_is_none(said: str) -> None:
    async def lie(_: str) -> str:
        return said

    async with elsewhere() as (client, other, here, _):
        node = client.address["node"]
        names = [name for name in here.broker.nodes._handlers if name.endswith(node)]
        here.broker.nodes._handlers[names[0]] = lie
        assert await other.post(send("x")) == 503


async def test_a_node_keeps_to_its_own_limit() -> None:
    """However large the messages are that the node takes which hands them on."""
    async with elsewhere() as (client, other, here, _):
        here.go_on.set()
        here.broker.limits = replace(LIMITS, max_message_bytes=100)
        assert await other.post(send("x" * 100)) == 413
        assert await other.post(send("x" * 50)) == 204
        assert await client.post(send("x" * 100)) == 413
