"""Where the backplanes' tests run: real engines, and so the real clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .servers import HAS_REDIS, RedisServer


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests of a module that leave it as it is."""
    if not HAS_REDIS:
        pytest.skip("needs redis-server; scripts/install-engines")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
