"""The benchmarks run, and what they find is not absurd."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.protocol_load import Follower, OutOfOrder, Publications

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
    page = (tmp_path / "benchmarks-hypercorn.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    stalled = {row[2]: row[4] for row in rows if row[1:2] == ["asyncio"] and "1" in row}
    assert stalled["asgi-broker, broker serve"] == "all"
    assert stalled["naive loop"].startswith("froze")
    plots = sorted(tmp_path.glob("*.svg"))
    assert len(plots) == 2
    for plot in plots:
        assert plot.name in page
        ET.parse(plot)


@pytest.mark.e2e
def test_protocol() -> None:
    """Each line arrives once and in order, and joined frames beat the loop."""
    figures: dict[str, list[float]] = json.loads(run("--only", "protocol", "--json"))
    assert all(each > 0 for runs in figures.values() for each in runs)
    ours, naive = (
        figures[f"protocol/asyncio/burst/{name}"][0]
        for name in ("protocol served", "naive")
    )
    assert ours > naive


@pytest.mark.e2e
def test_scale() -> None:
    """More of anything is measured, and what one more takes in memory."""
    figures: dict[str, list[float]] = json.loads(run("--only", "scale", "--json"))
    assert all(each > 0 for runs in figures.values() for each in runs)
    memory = [name for name in figures if name.startswith("scale/memory/")]
    assert len(memory) == 4


@pytest.mark.e2e
def test_backplanes() -> None:
    """All that is published on one node arrives on the other, once, on each engine."""
    for each in ("asyncpg", "redis"):
        pytest.importorskip(each, reason="the bench dependency group")
    figures: dict[str, list[float]] = json.loads(run("--only", "backplanes", "--json"))
    assert all(each > 0 for runs in figures.values() for each in runs)
    missing = {
        scheme
        for scheme in ("redis", "postgresql", "nats")
        if f"backplanes/bursts/asyncio/{scheme}/asgi-broker" not in figures
    }
    if missing:
        pytest.skip(f"not installed: {missing}")


def line(offset: int) -> bytes:
    data = f'{{"data":"{offset:020d}","offset":{offset}}}'
    return f'{{"push":{{"channel":"chat","pub":{data}}}}}'.encode()


def frame(*lines: bytes) -> bytes:
    payload = b"\n".join(lines)
    size = len(payload)
    return bytes((0x81, 126)) + size.to_bytes(2, "big") + payload


REPLY = b'{"id":3,"publish":{}}'
WHOLE = frame(line(1), line(2)) + frame(REPLY, line(3)) + frame(line(4))


def test_lines_are_counted_whichever_way_they_come() -> None:
    """In any pieces and in any frames; replies are no publications."""
    publications = Publications()
    for step in (1, 2, 3, 100, 1_000):
        client = Follower(publications, None)
        client.rewind()
        pieces = [WHOLE[at : at + step] for at in range(0, len(WHOLE), step)]
        assert sum(client.feed(memoryview(piece)) for piece in pieces) == 4
    other = Follower(publications, None)
    other.rewind()
    assert other.feed(memoryview(frame(*map(line, (1, 2, 3, 4))))) == 4


@pytest.mark.parametrize(
    "sent",
    [
        frame(line(1), line(3)),
        frame(line(1), line(1)),
        frame(line(2), line(1)),
        frame(line(1)) + frame(line(1)),
        frame(line(1), line(2), line(4)),
        frame(b'{"id":3,"error":{"code":100}}'),
        b"\x82" + frame(line(1))[1:],
    ],
    ids=["missing", "twice", "swapped", "again", "a later gap", "error", "binary"],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_is_out_of_order_is_seen(sent: bytes, is_first: bool) -> None:
    """By the first client to see it, and by one of which others have seen more."""
    publications = Publications()
    client = Follower(publications, None)
    if not is_first:
        other = Follower(publications, None)
        other.feed(memoryview(frame(*map(line, (1, 2, 3)))))
    with pytest.raises(OutOfOrder):
        client.feed(memoryview(sent))


def test_a_run_ends_with_all_lines() -> None:
    """Who has not got all of a run does not begin the next one."""
    publications = Publications()
    ahead, behind = (Follower(publications, None) for _ in range(2))
    ahead.feed(memoryview(frame(line(1), line(2))))
    behind.feed(memoryview(frame(line(1))))
    ahead.rewind()
    with pytest.raises(OutOfOrder):
        behind.rewind()
