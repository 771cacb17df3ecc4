"""What a process and its children take from the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ("CannotMeasure", "ProcessUse", "Sample", "cores_in_reach")

PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# proc_pid_stat(5), counted from after the name.
STATE, PARENT, CPU, STARTED, RSS = 0, 1, slice(11, 15), 19, 21
ENDED = ("Z", "X")


class CannotMeasure(Exception):
    """A process is not there, or this system does not tell what it takes.

    Attributes:
        pid: which.
    """

    def __init__(self, pid: int, message: str) -> None:
        super().__init__(message)
        self.pid = pid


class Sample(NamedTuple):
    """What a process and its children have taken.

    Attributes:
        cpu_s: processor time since they began, also of children that have ended (s, in
            steps of 10 ms): only differences mean something.
        rss_bytes: memory that they have now; what they share counts for each of them.
    """

    cpu_s: float
    rss_bytes: int


class Stat(NamedTuple):
    """What one line of ``/proc`` says."""

    state: str
    parent: int
    cpu_ticks: int
    started: int
    rss_pages: int


class ProcessUse:
    """Reads what a process and all below it take, from ``/proc``.

    Args:
        pid: of the uppermost.

    Raises:
        CannotMeasure: there is no such process, or no ``/proc``, as on macOS.
    """

    def __init__(self, pid: int) -> None:
        if not (PROC / "self/stat").exists():
            raise CannotMeasure(pid, "this system has no /proc to read a process' use")
        self.pid = pid
        self._started = self._top(None)

    def sample(self) -> Sample:
        """Return what they have taken; takes about 20 µs for each process there is.

        Raises:
            CannotMeasure: the process has ended.
        """
        self._top(self._started)
        family = below(self.pid).values()
        return Sample(
            cpu_s=sum(stat.cpu_ticks for stat in family) / TICKS_PER_S,
            rss_bytes=sum(stat.rss_pages for stat in family) * PAGE_BYTES,
        )

    def pids(self) -> list[int]:
        """Return the process and all that run below it.

        Raises:
            CannotMeasure: the process has ended.
        """
        self._top(self._started)
        return list(below(self.pid))

    def _top(self, started: int | None) -> int:
        """Return when the uppermost began; it must be that, if it is given."""
        stat = read(self.pid)
        if stat is None:
            raise CannotMeasure(self.pid, f"there is no process {self.pid}")
        # Another one may have got its number by now.
        if stat.state in ENDED or started not in (None, stat.started):
            raise CannotMeasure(self.pid, f"process {self.pid} has ended")
        return stat.started


def cores_in_reach(pids: Iterable[int]) -> int:
    """Return how many cores those processes may run on, taken together.

    All of the machine where the system does not tell; who has ended is left out.
    """
    cores: set[int] = set()
    for pid in pids:
        try:
            cores |= os.sched_getaffinity(pid)
        except (ProcessLookupError, PermissionError):
            continue
        except AttributeError:  # not Linux
            break
    return len(cores) or os.cpu_count() or 1


def below(pid: int) -> dict[int, Stat]:
    """Return a process and all its descendants that run now: {pid: what it takes}."""
    stats: dict[int, Stat] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdecimal() and (stat := read(int(entry))) is not None:
            stats[int(entry)] = stat
            children.setdefault(stat.parent, []).append(int(entry))
    family: dict[int, Stat] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        if one in stats:
            family[one] = stats[one]
            waiting += children.get(one, ())
    return family


def read(pid: int) -> Stat | None:
    """Return what ``/proc`` says of a process; None if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # its name may hold blanks and ")"
    return Stat(
        state=fields[STATE],
        parent=int(fields[PARENT]),
        # Own time, and that of children it has waited for: nothing counts twice.
        cpu_ticks=sum(map(int, fields[CPU])),
        started=int(fields[STARTED]),
        rss_pages=int(fields[RSS]),
    )
