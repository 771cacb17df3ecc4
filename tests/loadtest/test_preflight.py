"""What cannot work is said before anything is connected, in one line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.loadtest import preflight
from adapters.loadtest.plan import Plan, Scenario, Wire
from adapters.loadtest.preflight import PlanError, PreflightError, check
from adapters.loadtest.stamp import LEAST_BYTES

URL = "ws://localhost:8000/chat/{room}?user={client}"
TEXT: dict[str, Any] = {"wire": Wire.TEXT, "template": '{"say": "{message}"}'}


def planned(fields: dict[str, Any]) -> Plan:
    return msgspec.structs.replace(Plan(url=URL), **fields)


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """So many may be open now, and more if one asks."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
    yield few
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size_bytes": LEAST_BYTES, "warmup_s": 0, "settle_s": 0},
        {"clients": 2, "url": "ws://localhost", "topic": "all"},
        {"scenario": Scenario.ROOMS, "rooms": 50},
        {"scenario": Scenario.CHAT, "clients": 5, "processes": 5},
        {"scenario": Scenario.CHURN, "churn_per_s": 3},
        {"scenario": Scenario.SLOW, "slow_share": 0.01},
        {"scenario": Scenario.SLOW, "slow_share": 1},
        {"scenario": Scenario.STORM, "drop_s": 4.9},
        {"scenario": Scenario.RESUME, "drop_s": 9},
        {"sources": 254, "url": "wss://127.0.0.2"},
        {"sources": 2, "url": "ws://localhost"},
        {**TEXT, "greeting": ("hello {client}",)},
        {**TEXT, "scenario": Scenario.ROOMS, "rooms": 2},
        {"wire": Wire.SOCKETIO, "topic": "message"},
        {"token": "secret"},
        {"url": "wss://localhost", "insecure": True},
        {"pid": 1},
        {"url": "ws://[::1]:8000/", "rate_per_s": 0.2},
    ],
    ids=str,
)
def test_what_makes_sense(fields: dict[str, Any]) -> None:
    check(planned(fields))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"rate_per_s": 0}, "rate_per_s must be more than 0"),
        ({"rate_per_s": float("nan")}, "rate_per_s must be"),
        ({"duration_s": 0}, "duration_s must be"),
        ({"duration_s": float("inf")}, "duration_s must be"),
        ({"ramp_per_s": -1}, "ramp_per_s must be"),
        ({"warmup_s": -1}, "warmup_s must be 0 or more"),
        ({"settle_s": float("nan")}, "settle_s must be"),
        ({"drop_s": -0.1}, "drop_s must be"),
        ({"churn_per_s": -1}, "churn_per_s must be"),
        ({"rooms": 0}, "rooms must be 1 or more"),
        ({"processes": 0}, "processes must be"),
        ({"sources": 0}, "sources must be"),
        ({"sources": 255}, "sources must be at most 254"),
        ({"slow_share": 1.1}, "slow_share must be from 0 to 1"),
        ({"size_bytes": LEAST_BYTES - 1}, f"size_bytes must be {LEAST_BYTES} or more"),
        ({"rate_per_s": 0.05}, "one message takes 20 s, the test 10 s"),
        ({"rate_per_s": 1e9}, "at most 4,294,967,296 messages"),
        ({"clients": 1}, "clients must be 2 or more"),
        ({"rooms": 51, "scenario": Scenario.ROOMS}, "fill at most 50 rooms"),
        ({"scenario": Scenario.ROOMS}, "2 rooms or more"),
        ({"processes": 101}, "100 clients need no 101 processes"),
        ({"url": "http://localhost"}, "must begin with ws:// or wss://"),
        ({"url": "localhost:8000"}, "must begin with ws:// or wss://"),
        ({"url": "ws:///chat"}, "names no server"),
        ({"url": "ws://localhost:0"}, "names no server"),
        ({"url": "ws://localhost:70000"}, "no URL: Port out of range"),
        ({"url": "ws://[::1"}, "no URL: Invalid IPv6"),
        ({"url": "ws://localhost/a b"}, "has to encode"),
        ({"url": "ws://localhost/ä"}, "has to encode"),
        ({"url": "ws://localhost/a\nb"}, "has to encode"),
        ({"url": "ws://localhost/#here"}, "a fragment"),
        ({"url": "ws://example.org", "sources": 2}, "example.org is not on it"),
        ({"insecure": True}, "insecure is about certificates"),
        ({"slow_share": 0.1}, "nobody is slow in fan-out"),
        ({"scenario": Scenario.SLOW}, "slow needs slow_share"),
        ({"churn_per_s": 1}, "nobody comes and goes in fan-out"),
        ({"scenario": Scenario.CHURN}, "churn needs churn_per_s"),
        ({"scenario": Scenario.STORM, "drop_s": 5}, "duration_s over 10"),
        ({"scenario": Scenario.RESUME, "drop_s": 10}, "duration_s over 10"),
        ({**TEXT, "scenario": Scenario.RESUME}, "cannot resume with the wire text"),
        (
            {"wire": Wire.SOCKETIO, "scenario": Scenario.RESUME},
            "cannot resume with the wire socketio",
        ),
        ({**TEXT, "token": "secret"}, "the wire text has no token"),
        ({"wire": Wire.TEXT, "template": "hello"}, "{message} once"),
        ({"wire": Wire.TEXT, "template": "{message}{message}"}, "{message} once"),
        ({"template": '"{message}"'}, "the wire centrifuge has no template"),
        ({"greeting": ("hello",)}, "the wire centrifuge greets by itself"),
        ({"topic": ""}, "the wire centrifuge needs a topic"),
        ({"wire": Wire.SOCKETIO, "topic": ""}, "the wire socketio needs a topic"),
        (
            {"url": "ws://localhost", "rooms": 2, "topic": "all"},
            "all rooms would be one",
        ),
        ({**TEXT, "url": "ws://localhost", "rooms": 2}, "all rooms would be one"),
    ],
    ids=str,
)
def test_what_makes_none(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(PlanError) as error:
        check(planned(fields))
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_the_soft_limit_is_raised_as_far_as_needed(few_descriptors: int) -> None:
    check(Plan(url=URL, clients=10))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few_descriptors
    check(Plan(url=URL, clients=few_descriptors))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > few_descriptors


def test_too_few_descriptors() -> None:
    """In a process of its own: nobody could raise its limit again."""
    program = """
import resource
from adapters.loadtest.plan import Plan
from adapters.loadtest.preflight import PreflightError, check
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
url = "ws://localhost"
check(Plan(url=url, clients=900, processes=4))
try:
    check(Plan(url=url, clients=900, processes=3))
except PreflightError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert run.stderr == ""
    said, limits = run.stdout.splitlines()
    assert "needs 364 file descriptors, and may have 300: take 4 processes" in said
    assert "ulimit" in said
    assert limits == "(289, 300)"


def test_too_few_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = tmp_path / "ports"
    ports.write_text("1000\t1099\n")
    monkeypatch.setattr(preflight, "PORTS", ports)
    check(Plan(url=URL, clients=100))
    check(Plan(url=URL, clients=300, sources=3))
    with pytest.raises(PreflightError) as error:
        check(Plan(url=URL, clients=301, sources=3))
    assert "301 connections" in str(error.value)
    assert "an address has 100 of them: connect from 4 sources" in str(error.value)
    churn = Plan(
        url=URL, clients=80, scenario=Scenario.CHURN, churn_per_s=2, duration_s=10
    )
    check(churn)
    with pytest.raises(PreflightError, match="200 connections"):
        check(msgspec.structs.replace(churn, duration_s=1000))
    ports.unlink()
    check(Plan(url=URL, clients=101))  # no Linux: nobody knows


def test_a_server_that_may_not_have_all_clients_open() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (70, 80));"
        "print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            check(Plan(url=URL, clients=70, pid=server.pid))
            with pytest.raises(PreflightError, match="may have 70 files open"):
                check(Plan(url=URL, clients=71, pid=server.pid))
        finally:
            server.kill()
    with pytest.raises(PreflightError, match=f"pid: there is no process {server.pid}"):
        check(Plan(url=URL, pid=server.pid))
