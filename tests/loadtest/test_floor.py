"""What a core can send at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from adapters.loadtest import floor
from adapters.loadtest.floor import send_floor, sent_bytes_per_s


def test_it_is_measured_and_leaves_nothing_behind(
    capfd: pytest.CaptureFixture[str],
) -> None:
    cores, threads = os.sched_getaffinity(0), threading.active_count()
    open_files = len(os.listdir("/proc/self/fd"))
    # Of processor time a call takes over 0.1 µs and, on whatever machine, under 0.2 ms.
    assert 5_000 < send_floor(128, 20, 0.1) < 10_000_000
    assert capfd.readouterr() == ("", "")  # the reader has nothing to complain of
    assert os.sched_getaffinity(0) == cores
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_larger_messages_are_fewer_a_second() -> None:
    assert send_floor(256 * 1024, 2, 0.1) < send_floor(64, 2, 0.1)


def test_only_as_many_sockets_as_there_is_room_for() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80));"
        "from adapters.loadtest.floor import send_floor;"
        "print(send_floor(128, 1000, 0.05))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert run.stderr == ""
    assert float(run.stdout) > 100


def test_a_reader_that_does_not_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(floor, "PATIENCE_S", 0.01)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(TimeoutError, match="nobody reads"):
            sent_bytes_per_s([ours], bytes(10_000), 60)


def test_a_reader_that_cannot_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="did not start"):
        send_floor(128, 1, 0.01)
