"""Both event loops, on a virtual clock: no test waits, and a hang fails at once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

# Importing it has trio shuffle its tasks into all orders, not two.
import hypothesis
import pytest

from broker.testing import virtual_clock

# Its deadline is of the real clock: a machine with other work to do misses it.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """For tests in memory only: sockets and threads need the real clock."""
    return virtual_clock(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Escape what cannot be encoded: pytest-xdist's workers send reports as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode())
        for name, text in report.sections
    ]
    return report
