"""``broker bench`` against ``broker serve``."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.loadtest.coordinator import BenchError, run
from adapters.loadtest.plan import Scenario, Slowness, Wire
from tests.loadtest.runs import LISTENERS, MESSAGES, losses, of, quick
from tests.serving import Server

HISTORY = """
[[topics]]
pattern = "kept.>"
history_size = 1000
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("host", "slowness"),
    [("serve-asyncio", Slowness.STALL), ("serve-trio", Slowness.TRICKLE)],
)
def test_our_server_loses_nothing(
    host: str, slowness: Slowness, tmp_path: Path
) -> None:
    settings = tmp_path / "broker.toml"
    settings.write_text(HISTORY)
    with Server("", host, options=("--config", str(settings))) as server:
        url, wire = ours(server), Wire.CENTRIFUGE
        plan = quick(
            *(url, wire),
            scenario=Scenario.SLOW,
            slow_share=0.1,
            slowness=slowness,
            clients=22,
            rooms=2,
            processes=2,
            sources=2,
            pid=server.pid,
        )
        slow = run(plan)
        plan = quick(url, wire, scenario=Scenario.RESUME, drop_s=0.1, topic="kept.1")
        resumed = run(plan)
        if host == "serve-asyncio":
            check_what_is_not_allowed(url)
    assert losses(of(slow)) == losses(of(slow, "slow")) == {}
    assert of(slow).delivered == MESSAGES // 2 * 18
    assert of(slow, "slow").delivered == MESSAGES // 2 * 2
    # It read little or nothing until publishing was over, half a second.
    assert of(slow, "slow").latency.max_ms >= 400
    assert losses(of(resumed, "resuming")) == {}
    assert of(resumed, "resuming").delivered == MESSAGES * LISTENERS
    assert resumed.resumed == resumed.returning.count == LISTENERS
    assert slow.server is not None
    assert 0 < slow.server.idle_rss_bytes <= slow.server.peak_rss_bytes
    assert 0 < slow.server.cpu < 1.5
    assert resumed.server is None


def check_what_is_not_allowed(url: str) -> None:
    """Have our server refuse what it cannot do, and end who says too much."""
    wire = Wire.CENTRIFUGE
    with pytest.raises(BenchError, match="give the topic a history"):
        run(quick(url, wire, scenario=Scenario.RESUME, drop_s=0.1))
    # It is over after a quarter of a second; a busy machine notices later.
    plan = quick(url, wire, rate_per_s=1000.0, duration_s=3.0)
    report = run(plan)
    said = "closed the connections of 1 publisher (closed with 3013 too many requests)"
    assert any(said in each for each in report.warnings)
    assert 0 < report.sent < 3_000


def ours(server: Server) -> str:
    return server.url.replace("http", "ws", 1) + "/connection/websocket"
