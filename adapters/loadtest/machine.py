"""On what machine a test ran."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from .report import Machine

__all__ = ("this_machine",)

CPU_INFO = Path("/proc/cpuinfo")


def this_machine(floor_per_s: float = 0.0) -> Machine:
    """Return what a report says of this machine.

    Args:
        floor_per_s: as in ``Machine``.
    """
    return Machine(
        cores=os.cpu_count() or 1,
        processor=_processor(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        floor_per_s=floor_per_s,
    )


def _processor() -> str:
    try:
        lines = CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (each.partition(":")[2] for each in lines if each.startswith("model name"))
    return next(named, "").strip() or platform.processor() or platform.machine()
