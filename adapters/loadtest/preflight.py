"""What can be seen to be missing before a load test starts."""

from __future__ import annotations

import math
import resource
from pathlib import Path

from .plan import Plan, Scenario
from .process import CannotMeasure, ProcessUse
from .sense import PlanError, PreflightError, check_sense

__all__ = ("PlanError", "PreflightError", "check")

# What a process has open besides its clients (guess; an empty generator has about 10).
SPARE_DESCRIPTORS = 64
PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
# How long a port stays taken after a connection from it (s; TIME_WAIT on Linux).
PORT_REST_S = 60.0


def check(plan: Plan) -> None:
    """See that a test can be run, and raise the limit of descriptors if need be.

    The limit is raised for this process and those that it starts, as far as the system
    allows without asking; nothing else changes.

    Raises:
        PlanError: it could not be run anywhere: the plan makes no sense.
        PreflightError: too few descriptors or ports here, or no process of that number.
    """
    check_sense(plan)
    check_server(plan)
    check_ports(plan)
    raise_descriptors(plan)


def check_server(plan: Plan) -> None:
    """See that there is a process to measure, and that it may have all clients."""
    if plan.pid is None:
        return
    try:
        family = ProcessUse(plan.pid).pids()
        most = sum(open_files(pid) for pid in family)
    except CannotMeasure as error:
        raise PreflightError(f"pid: {error}") from error
    if most < plan.clients:
        raise PreflightError(
            f"the server, process {plan.pid}, may have {most:,.0f} files open, and "
            f"{plan.clients:,} clients need one each: start it after "
            f"`ulimit -n {plan.clients + SPARE_DESCRIPTORS}`"
        )


def open_files(pid: int) -> float:
    """Return how many files a process may have open; infinite if it does not say."""
    try:
        limits = Path(f"/proc/{pid}/limits").read_text()
    except OSError:  # another user's, or ended
        return math.inf
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return float("inf" if soft == "unlimited" else soft)
    return math.inf


def check_ports(plan: Plan) -> None:
    """See that all clients find a port of their own to connect from."""
    try:
        low, high = map(int, PORTS.read_text().split())
    except OSError:  # not Linux
        return
    need = plan.clients
    if plan.scenario is Scenario.CHURN:
        need += math.ceil(plan.churn_per_s * min(plan.duration_s, PORT_REST_S))
    each = high - low + 1
    if need > each * plan.sources:
        raise PreflightError(
            f"{need:,} connections need a port each, and an address has {each:,} of "
            f"them: connect from {math.ceil(need / each)} sources, or widen "
            f"net.ipv4.ip_local_port_range"
        )


def raise_descriptors(plan: Plan) -> None:
    """See that a generator process may have all its clients open."""
    need = math.ceil(plan.clients / plan.processes) + SPARE_DESCRIPTORS
    if plan.scenario is Scenario.CHURN:
        # Who comes may connect before who leaves is gone (guess: a second's worth).
        need += math.ceil(plan.churn_per_s / plan.processes)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        if hard != resource.RLIM_INFINITY and hard < need:
            processes = math.ceil(plan.clients / max(hard - SPARE_DESCRIPTORS, 1))
            raise PreflightError(
                f"a generator process needs {need:,} file descriptors, and may have "
                f"{hard:,}: take {processes} processes, or raise the limit "
                f"(`ulimit -Hn {need}` as root, or LimitNOFILE= of systemd)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
