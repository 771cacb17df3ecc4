"""The fixture ``server``, and what it printed beside each failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.serving import Server


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for all tests that ask for the same example and host."""
    example, host = request.param
    with Server(f"examples.{example}:app", host) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the server's log with a failure."""
    report = yield
    fixtures: dict[str, Any] = getattr(item, "funcargs", {})
    running = fixtures.get("server")
    if report.failed and report.when == "call" and isinstance(running, Server):
        report.sections.append(("server log", running.log()))
    return report
