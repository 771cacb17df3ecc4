"""One server per host for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import Server

# Hypercorn as it comes, on one loop to save the time, and what we make of it.
HYPERCORNS = [
    "asyncio",
    "serve-asyncio",
    "serve-uvloop",
    "serve-trio",
]
USER_TIMEOUT_S = 2  # of `broker serve`: soon enough to be waited for


@pytest.fixture(scope="module", params=HYPERCORNS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A real server; a traceback in its log fails the last test that used it."""
    variables = {"BROKER_SERVER_USER_TIMEOUT_S": str(USER_TIMEOUT_S)}
    with Server("tests.e2e.app:app", request.param, variables=variables) as server:
        yield server
