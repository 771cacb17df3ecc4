"""``broker bench compare`` with two servers that need nothing from a registry."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from adapters.loadtest.compare import Comparison
from adapters.loadtest.peers.catalogue import BASELINE
from tests.serving import wait_until

MARK = "LOADTEST_MARK"  # in the environment of all that a test starts
ARGUMENTS = (
    *("--peer", "serve", "--peer", BASELINE, "--rounds", "1", "--listeners", "10"),
    *("--rate", "40", "--seconds", "0.5", "--no-capacity", "--no-slow"),
)
COMMAND = (sys.executable, "-m", "adapters.cli", "bench", "compare")


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """All that the test starts, however deep, has this in its environment."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    return value


def marked(mark: str) -> Iterator[int]:
    """Yield the processes that have it."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (
                f"{MARK}={mark}".encode() in (entry / "environ").read_bytes()
            ):
                yield int(entry.name)
        except OSError:
            continue  # it has just gone, or is somebody else's


@pytest.mark.e2e
def test_two_servers_are_compared_and_nothing_stays(mark: str, tmp_path: Path) -> None:
    json, html, page = (tmp_path / f"a.{ending}" for ending in ("json", "html", "md"))
    files = ("--json", json, "--html", html, "--markdown", page)
    run = subprocess.run(
        [*COMMAND, *ARGUMENTS, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert list(marked(mark)) == []
    found = msgspec.json.decode(json.read_bytes(), type=Comparison)
    assert [trial.peer for trial in found.trials] == ["serve", BASELINE]
    for trial in found.trials:
        assert trial.paced is not None
        healthy = trial.paced.audiences[0]
        assert healthy.expected == healthy.delivered >= 100
        assert trial.paced.server is not None
        assert trial.paced.server.cpu_us_per_delivery > 0
    assert "broker serve" in run.stdout
    assert "naive loop, hypercorn" in page.read_text()
    assert "naive loop, hypercorn" in html.read_text()


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_in_the_middle_leaves_no_process(
    number: signal.Signals, mark: str
) -> None:
    with subprocess.Popen(
        [*COMMAND, *ARGUMENTS, "--seconds", "30"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "round 1 of 1, broker serve: 40 messages/s" in process.stderr.readline()
        # The command, a server and a generator; the server is there before the line.
        wait_until(lambda: len(list(marked(mark))) >= 3)
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == (1 if number is signal.SIGINT else 143)
    assert list(marked(mark)) == []
