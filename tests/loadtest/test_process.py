"""What a process and its children take, against what they say themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.loadtest import process
from adapters.loadtest.process import CannotMeasure, ProcessUse, cores_in_reach

MIB = 1024 * 1024
# Works itself, has a child work that ends, and one that stays and holds memory.
FAMILY = """
import os, subprocess, sys, time
def burn():
    while time.process_time() < 0.15: pass
command = [sys.executable, "-I", "-S", "-c"]
subprocess.run([*command, "import time\\nwhile time.process_time() < 0.15: pass"])
burn()
hold = "held = bytearray(b'x') * (64 << 20); print(flush=True); sys.stdin.read()"
with subprocess.Popen([*command, f"import sys;{hold}"], stdin=-1, stdout=-1) as child:
    child.stdout.readline()
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    print(own, child.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def python(program: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when its stdin does."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_whole_family_counts_and_who_has_ended_too() -> None:
    with python(FAMILY) as child:
        assert child.stdout is not None
        own_s, grandchild = child.stdout.readline().split()
        use = ProcessUse(child.pid)
        sample = use.sample()
        # The child that stays has taken a few steps of 10 ms as well.
        assert float(own_s) > 0.25
        assert float(own_s) - 0.05 < sample.cpu_s < float(own_s) + 0.5
        assert 64 * MIB < sample.rss_bytes < 200 * MIB
        assert use.pids() == [child.pid, int(grandchild)]


def test_who_has_ended_is_not_measured() -> None:
    with python("input()") as child:
        use = ProcessUse(child.pid)
        assert use.sample().rss_bytes > MIB
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        with pytest.raises(CannotMeasure, match=f"process {child.pid} has ended"):
            use.sample()
        with pytest.raises(CannotMeasure, match="has ended"):
            ProcessUse(child.pid)
        child.wait()
        with pytest.raises(CannotMeasure, match=f"no process {child.pid}") as error:
            use.sample()
        assert error.value.pid == child.pid


def stat(folder: Path, pid: int, *, parent: int = 1, started: int = 5) -> None:
    """Write what the kernel would say of a process whose name is no help."""
    numbers = [0] * 9 + [100, 50, 20, 5] + [0] * 4 + [started, 0, 7, 0]
    fields = " ".join(map(str, numbers))
    (folder / str(pid)).mkdir(exist_ok=True)
    text = f"{pid} (a) R 1 (b) S {parent} {fields}"
    (folder / str(pid) / "stat").write_text(text)


def test_another_process_with_its_number_is_not_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROC", tmp_path)
    with pytest.raises(CannotMeasure, match="no /proc"):
        ProcessUse(9)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").touch()
    stat(tmp_path, 9)
    stat(tmp_path, 10, parent=9)
    stat(tmp_path, 11)
    use = ProcessUse(9)
    assert use.sample() == (
        2 * 175 / process.TICKS_PER_S,
        2 * 7 * process.PAGE_BYTES,
    )
    stat(tmp_path, 9, started=6)
    with pytest.raises(CannotMeasure, match="has ended"):
        use.sample()


def test_cores_that_several_processes_may_use() -> None:
    one, *_ = sorted(os.sched_getaffinity(0))
    with python("input()") as first, python("input()") as second:
        pids = [first.pid, second.pid]
        assert cores_in_reach(pids) == len(os.sched_getaffinity(0))
        for pid in pids:
            os.sched_setaffinity(pid, {one})
        assert cores_in_reach(pids) == 1
        assert cores_in_reach([]) == os.cpu_count()
