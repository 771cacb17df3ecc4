"""A handler that waits for its client receives by itself, where that loses nothing."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.e2e.clients import vitals, wait_sessions
from tests.serving import PATIENCE_S, Server

pytestmark = pytest.mark.e2e

ROUNDS, MESSAGES = 5, 20
CLIENTS = 10


def test_who_gives_up_waiting_loses_nothing(server: Server) -> None:
    said = [f"{number}" for number in range(MESSAGES)]
    with server.connect("/impatient") as client:
        for _ in range(ROUNDS):
            for text in said:
                client.send(text)
            assert [client.recv(PATIENCE_S) for _ in said] == said


@pytest.mark.parametrize("path", ["/ours", "/between"])
def test_an_idle_client_takes_a_task_only_where_it_must(
    server: Server, path: str
) -> None:
    """Under ``broker serve``, unless somebody is between us and the server."""
    is_free = server.host.startswith("serve") and path == "/ours"
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(server.connect(path))
        wait_sessions(server, CLIENTS)
        assert vitals(server)["readers"] == (0 if is_free else CLIENTS)
    wait_sessions(server, 0)
    assert vitals(server)["readers"] == 0
