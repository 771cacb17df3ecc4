"""The benchmarks run, and what they find is not absurd."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120  # a machine that is busy with other tests
OURS = "asgi-broker, receive_all"
EACH = "anyio streams, one await each"


def run(*words: str) -> str:
    """Return what ``python -m benchmarks --quick`` says."""
    pytest.importorskip("broadcaster", reason="the bench dependency group")
    pytest.importorskip("channels", reason="the bench dependency group")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_process() -> None:
    """All contenders deliver; a burst is cheaper to take at once than one by one."""
    figures: dict[str, list[float]] = json.loads(run("--only", "in_process", "--json"))
    assert all(each > 0 for runs in figures.values() for each in runs)
    for loop in ("asyncio", "trio"):
        bursts = f"in_process/{loop}/bursts"
        ours, each = figures[f"{bursts}/{OURS}"][0], figures[f"{bursts}/{EACH}"][0]
        assert ours > each / 2
        paced = f"in_process/{loop}/paced"
        ours, each = figures[f"{paced}/{OURS}"][0], figures[f"{paced}/{EACH}"][0]
        assert ours > each / 10


@pytest.mark.e2e
def test_over_hypercorn(tmp_path: Path) -> None:
    """The report is written, and only the naive loop freezes for a stalled client."""
    run("--only", "over_hypercorn", "--output", str(tmp_path))
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    stalled = {row[2]: row[4] for row in rows if row[1:2] == ["asyncio"] and "1" in row}
    assert stalled["asgi-broker"] == "all"
    assert stalled["naive loop"].startswith("froze")
    plots = sorted(tmp_path.glob("*.svg"))
    assert len(plots) == 2
    for plot in plots:
        assert plot.name in page
        ET.parse(plot)
