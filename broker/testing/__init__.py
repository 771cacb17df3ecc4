"""What users test with: clients in memory, a backplane with faults, virtual time."""

from .backplane import FaultyBackplane
from .clock import virtual_clock
from .conformance import check_backplane
from .transport import MemoryClient, memory_transport

__all__ = (
    "FaultyBackplane",
    "MemoryClient",
    "check_backplane",
    "memory_transport",
    "virtual_clock",
)
