"""One server per host for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scenarios import installed_sdk
from tests.serving import Server

# Hypercorn as it comes, on one loop to save the time, and what we make of it.
HYPERCORNS = [
    "asyncio",
    "serve-asyncio",
    "serve-uvloop",
    "serve-trio",
]
CLIENT_APP = "tests.e2e.client_app:app"
USER_TIMEOUT_S = 2  # of `broker serve`: soon enough to be waited for


@pytest.fixture(scope="module", params=HYPERCORNS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A real server; a traceback in its log fails the last test that used it."""
    variables = {"BROKER_SERVER_USER_TIMEOUT_S": str(USER_TIMEOUT_S)}
    with Server("tests.e2e.app:app", request.param, variables=variables) as server:
        yield server


@pytest.fixture(scope="session")
def sdk() -> Path:
    """A folder that has the JavaScript SDK among its modules."""
    return installed_sdk()


@pytest.fixture(scope="module", params=["serve-asyncio", "serve-uvloop", "serve-trio"])
def client_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A real server that speaks the client protocol; it logs its planted bug only."""
    with Server(CLIENT_APP, request.param) as server:
        server.may_log_tracebacks = True  # for what a handler raises: below
        yield server
        log = server.log()
        assert log.count("Traceback") == log.count("ValueError: a bug"), log
