"""One server per event loop for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import Server


@pytest.fixture(scope="module", params=["asyncio", "uvloop", "trio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A real hypercorn; a traceback in its log fails the last test that used it."""
    with Server("tests.e2e.app:app", request.param) as server:
        yield server
