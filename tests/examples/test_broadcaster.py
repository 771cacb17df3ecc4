"""The example written for encode/broadcaster, under real servers."""

from __future__ import annotations

import pytest

from tests.serving import PATIENCE_S, Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.parametrize(
        "server",
        [("starlette_broadcaster", "asyncio"), ("starlette_broadcaster", "trio")],
        ids=["asyncio", "trio"],
        indirect=True,
    ),
]
PATH = "/chatroom"


def test_page_finds_its_own_server(server: Server) -> None:
    response = server.get()
    assert response.status_code == 200
    assert "<!DOCTYPE html>" in response.text
    assert "location.host" in response.text
    assert PATH in response.text


def test_all_hear_what_one_says_and_some_leave(server: Server) -> None:
    with server.connect(PATH) as one:
        # What it hears of itself proves that it is subscribed.
        one.send("first")
        assert one.recv(PATIENCE_S) == "first"
        with server.connect(PATH) as two:
            two.send("second")
            assert two.recv(PATIENCE_S) == "second"
            assert one.recv(PATIENCE_S) == "second"
            one.send("Grüße")
            assert one.recv(PATIENCE_S) == two.recv(PATIENCE_S) == "Grüße"
        one.send("alone again")
        assert one.recv(PATIENCE_S) == "alone again"
