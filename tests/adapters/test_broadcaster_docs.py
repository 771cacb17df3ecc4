"""The pages on moving here: every program in them runs as printed."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import pytest

with warnings.catch_warnings():
    # It wants httpx2 and says so on import; httpx serves as well.
    warnings.filterwarnings("ignore", "Using `httpx`", UserWarning)
    from fastapi.testclient import TestClient

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE_S = 60
Backend = Literal["asyncio", "trio"]


def programs(page: str) -> list[str]:
    text = (DOCS / f"migrating-from-{page}.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


DROP_IN, ALIAS, OWN_BACKEND, BOTH = programs("broadcaster")
CONSUMER, ENDPOINT = programs("channels")
MANAGER, BROKER = programs("connection-manager")


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


def serve(program: str, backend: Backend) -> TestClient:
    names: dict[str, Any] = {"__name__": "printed"}
    exec(compile(program, "printed", "exec"), names)
    return TestClient(names["app"], backend=backend)


def run(program: str) -> str:
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


def test_the_drop_in(backend: Backend) -> None:
    with (
        serve(DROP_IN, backend) as client,
        client.websocket_connect("/chat") as one,
    ):
        one.send_text("anybody?")
        assert one.receive_text() == "anybody?"
        with client.websocket_connect("/chat") as two:
            two.send_text("me")
            assert two.receive_text() == "me"
            assert one.receive_text() == "me"
        one.send_text("bye")
        assert one.receive_text() == "bye"


def test_imports_left_as_they_are() -> None:
    checks = "assert SameBackend is BroadcastBackend; print(Broadcast.__module__)"
    assert run(ALIAS + checks) == "adapters.broadcaster.broadcast"


def test_a_backend_of_ones_own(backend: Backend) -> None:
    started = "anyio.run(main)"
    assert started in OWN_BACKEND
    program = OWN_BACKEND.replace(started, f"anyio.run(main, backend='{backend}')")
    printed = re.search(r"# prints: (.*)", OWN_BACKEND)
    assert printed is not None
    assert run(program) == printed[1]


def test_old_code_beside_new(backend: Backend) -> None:
    with (
        serve(BOTH, backend) as client,
        client.websocket_connect("/new") as new,
    ):
        # A client is connected a moment before it is subscribed.
        new.send_text("hello")
        assert new.receive_text() == "hello"
        assert client.post("/say/from of old").status_code == 200
        assert new.receive_text() == "from of old"
        new.close()


# What a Django project has around its consumer, and clients.
IN_DJANGO = """
import asyncio
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for a test",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()
"""
TALK = """
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.urls import path

async def main():
    app = URLRouter([path("ws/chat/<room>/", ChatConsumer.as_asgi())])
    scope = {"type": "websocket", "path": "/ws/chat/tea/"}
    clients = [ApplicationCommunicator(app, scope) for _ in range(2)]
    for client in clients:
        await client.send_input({"type": "websocket.connect"})
        assert (await client.receive_output())["type"] == "websocket.accept"
    text = '{"message": "hello"}'
    await clients[0].send_input({"type": "websocket.receive", "text": text})
    for client in clients:
        print((await client.receive_output())["text"])
        await client.send_input({"type": "websocket.disconnect", "code": 1000})
        await client.wait()

asyncio.run(main())
"""
SAID = '{"message": "hello"}'


def test_the_consumer_that_the_page_begins_with() -> None:
    # Not with -W error: Channels and Django have warnings of their own.
    outcome = subprocess.run(
        [sys.executable, "-c", IN_DJANGO + CONSUMER + TALK],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [SAID, SAID]


def test_the_endpoint_that_it_becomes(backend: Backend) -> None:
    with serve(ENDPOINT, backend) as client:
        with (
            client.websocket_connect("/ws/chat/tea/") as one,
            client.websocket_connect("/ws/chat/tea/") as two,
            client.websocket_connect("/ws/chat/coffee/") as other,
        ):
            # A client is connected a moment before it is subscribed.
            for each in (other, two):
                each.send_text(SAID)
                assert each.receive_text() == SAID
            assert one.receive_text() == SAID
            one.send_text('{"message": "again"}')
            for each in (one, two):
                assert each.receive_text() == '{"message": "again"}'
            for each in (one, two, other):
                each.close()


@pytest.mark.parametrize("program", [MANAGER, BROKER], ids=["manager", "broker"])
def test_the_manager_and_what_it_becomes(program: str, backend: Backend) -> None:
    """Clients notice nothing: one conversation, with either."""
    with (
        serve(program, backend) as client,
        client.websocket_connect("/ws/ada") as ada,
    ):
        ada.send_text("anybody?")
        assert ada.receive_text() == "You wrote: anybody?"
        assert ada.receive_text() == "ada: anybody?"
        with client.websocket_connect("/ws/bob") as bob:
            bob.send_text("me")
            assert bob.receive_text() == "You wrote: me"
            for each in (bob, ada):
                assert each.receive_text() == "bob: me"
            assert client.post("/announce/tea").json() == 2
            for each in (bob, ada):
                assert each.receive_text() == "tea"
            bob.close()
            assert ada.receive_text() == "bob has left"
        ada.close()
